package codec

import (
	"encoding/binary"
	"math"
	"strings"
	"unicode/utf8"
)

func toValid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// cborDecoder reads CBOR data from front to back. A length that the data claims
// is believed only as far as there are bytes.
type cborDecoder struct {
	trail
	data  []byte
	pos   int
	depth int
}

// peek returns the next byte, a break at the end: no value begins with it.
func (d *cborDecoder) peek() byte {
	if d.pos < len(d.data) {
		return d.data[d.pos]
	}
	return cborBreak
}

func (d *cborDecoder) peekNull() bool {
	c := d.peek()
	return c == cborNull || c == cborNull+1 // null and undefined
}

func (d *cborDecoder) null() bool {
	if !d.peekNull() {
		return false
	}
	d.pos++
	return true
}

func (d *cborDecoder) truncated() error {
	return d.errorf("Unexpected end of input at offset %d", len(d.data))
}

func (d *cborDecoder) mismatch(what string) error {
	if d.pos >= len(d.data) {
		return d.truncated()
	}
	names := [...]string{"NUMBER_VALUE", "NUMBER_VALUE", "BLOB_VALUE", "STRING_VALUE", "LIST_VALUE", "MAP_VALUE", "TAGGED_VALUE", "SIMPLE_VALUE"}
	return d.errorf("%s can not be converted to %s %s", names[d.peek()>>5], article(what), what)
}

// head consumes a type and its argument. An open-ended item's argument is
// cborIndefinite with open set by the caller, who has looked at the byte.
func (d *cborDecoder) head() (major byte, arg uint64, err error) {
	if d.pos >= len(d.data) {
		return 0, 0, d.truncated()
	}
	c := d.data[d.pos]
	d.pos++
	major, info := c>>5, c&31
	if info < 24 {
		return major, uint64(info), nil
	}
	if info > 27 {
		return 0, 0, d.errorf("Malformed item 0x%02x at offset %d", c, d.pos-1)
	}
	size := 1 << (info - 24)
	if len(d.data)-d.pos < size {
		return 0, 0, d.truncated()
	}
	b := d.data[d.pos : d.pos+size]
	d.pos += size
	switch size {
	case 1:
		arg = uint64(b[0])
	case 2:
		arg = uint64(binary.BigEndian.Uint16(b))
	case 4:
		arg = uint64(binary.BigEndian.Uint32(b))
	case 8:
		arg = binary.BigEndian.Uint64(b)
	}
	return major, arg, nil
}

// open consumes the first byte of an open-ended item of this type.
func (d *cborDecoder) open(major byte) bool {
	if d.pos < len(d.data) && d.data[d.pos] == major<<5|cborIndefinite {
		d.pos++
		return true
	}
	return false
}

// bytes consumes a byte or text string, whole or in chunks. The result may share
// the input.
func (d *cborDecoder) bytes(major byte, what string) ([]byte, error) {
	if d.peek()>>5 != major || d.pos >= len(d.data) {
		return nil, d.mismatch(what)
	}
	if !d.open(major) {
		return d.chunk(major, what)
	}
	var whole []byte
	for d.peek() != cborBreak {
		if d.peek()>>5 != major {
			return nil, d.mismatch(what)
		}
		b, err := d.chunk(major, what)
		if err != nil {
			return nil, err
		}
		whole = append(whole, b...)
	}
	return whole, d.end()
}

func (d *cborDecoder) chunk(major byte, what string) ([]byte, error) {
	_, n, err := d.head()
	if err != nil {
		return nil, err
	}
	if n > uint64(len(d.data)-d.pos) {
		return nil, d.truncated()
	}
	b := d.data[d.pos : d.pos+int(n)]
	d.pos += int(n)
	if major == cborText && !utf8.Valid(b) {
		return nil, d.errorf("Invalid UTF-8 in a string")
	}
	return b, nil
}

// end consumes the break that ends an open-ended item.
func (d *cborDecoder) end() error {
	if d.pos >= len(d.data) {
		return d.truncated()
	}
	d.pos++
	return nil
}

// elements consumes the elements of an array or map by calling element for each.
func (d *cborDecoder) elements(major byte, what string, element func() error) error {
	if d.pos >= len(d.data) || d.peek()>>5 != major {
		return d.mismatch(what)
	}
	if d.depth++; d.depth > maxDepth {
		return d.errorf("Nesting is deeper than %d levels", maxDepth)
	}
	defer func() { d.depth-- }()
	if d.open(major) {
		for d.peek() != cborBreak {
			if err := element(); err != nil {
				return err
			}
		}
		return d.end()
	}
	_, n, err := d.head()
	if err != nil {
		return err
	}
	for ; n > 0; n-- {
		if d.pos >= len(d.data) {
			return d.truncated()
		}
		if err := element(); err != nil {
			return err
		}
	}
	return nil
}

func (d *cborDecoder) arrayOf(what string, element func() error) error {
	return d.elements(cborArray, what, element)
}

func (d *cborDecoder) mapOf(what string, member func(key string) error) error {
	return d.elements(cborMap, what, func() error {
		key, err := d.bytes(cborText, "member name")
		if err != nil {
			return err
		}
		return member(string(key))
	})
}

// float consumes a number of any kind.
func (d *cborDecoder) float(what string) (float64, error) {
	c := d.peek()
	switch c {
	case cborFloat32 - 1, cborFloat32, cborFloat64:
		if d.pos >= len(d.data) {
			return 0, d.truncated()
		}
		_, bits, err := d.head()
		switch c {
		case cborFloat64:
			return math.Float64frombits(bits), err
		case cborFloat32:
			return float64(math.Float32frombits(uint32(bits))), err
		}
		return halfFloat(uint16(bits)), err
	}
	major := c >> 5
	if d.pos >= len(d.data) || major != cborUint && major != cborNegative {
		return 0, d.mismatch(what)
	}
	_, n, err := d.head()
	if major == cborNegative {
		return -1 - float64(n), err
	}
	return float64(n), err
}

func halfFloat(h uint16) float64 {
	sign := 1.0
	if h&0x8000 != 0 {
		sign = -1
	}
	exponent, mantissa := int(h>>10&31), float64(h&0x3ff)
	switch exponent {
	case 0:
		return sign * math.Ldexp(mantissa, -24)
	case 31:
		if mantissa != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(mantissa+1024, exponent-25)
}

// skip consumes one value of any kind.
func (d *cborDecoder) skip() error {
	switch major := d.peek() >> 5; {
	case d.pos >= len(d.data):
		return d.truncated()
	case major == cborBytes || major == cborText:
		_, err := d.bytes(major, "value")
		return err
	case major == cborArray:
		return d.arrayOf("value", d.skip)
	case major == cborMap:
		return d.elements(cborMap, "value", func() error {
			if err := d.skip(); err != nil {
				return err
			}
			return d.skip()
		})
	case major == cborTag:
		if d.depth++; d.depth > maxDepth {
			return d.errorf("Nesting is deeper than %d levels", maxDepth)
		}
		defer func() { d.depth-- }()
		if _, _, err := d.head(); err != nil {
			return err
		}
		return d.skip()
	}
	_, _, err := d.head()
	return err
}
