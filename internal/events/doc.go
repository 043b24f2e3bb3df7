// Package events is the bus on which rooms tell what has happened to resources, in the
// shape of Amazon EventBridge's events.
//
// Who subscribes gets what is published from then on, in order, as long as it keeps up; one
// that does not is cut off, and knows it. Nothing is kept: the records say how things are.
//
// Read bus.go.
package events
