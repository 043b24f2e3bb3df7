// Package codec maps aws-sdk-go-v2's own input, output and error types to the
// bytes of AWS's protocols and back: JSON both ways, query parameters in and XML
// out, CBOR both ways.
//
// Each Go type is looked at once: its shape (kinds, wire names, members) is kept
// and every later call walks the shape and the value side by side. A member's
// wire name is the Go field's name, with its first letter lowered for the
// services that do so, but for the exceptions in names.go. Union types are Go
// interfaces: their variants are registered with New.
//
// What it holds to: nil pointers, slices and maps are not written, empty ones
// are; numbers and booleans without a pointer are always written, empty enums
// are not; unknown members are ignored; null is absence; a value of the wrong
// type, out of range, not UTF-8 or nested too deeply is an *Error that says
// where. Input is hostile: depth (maxDepth) and memory (maxDecoded) are bounded,
// and no length that the input claims is believed.
//
// It does not check constraints of the model, and knows no service but in
// names.go.
//
// Read codec.go first, then shape.go, then a format: json_*.go, query.go, xml.go,
// cbor_*.go.
package codec
