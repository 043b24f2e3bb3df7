package store

import (
	"bytes"
	"fmt"
	"strconv"
)

// A stored value is {"v":<schema version>,"r":<record>}: valid JSON for anyone
// who looks, and fixed in form, so that the record is parsed only once.
const (
	envelopeHead = `{"v":`
	envelopeMid  = `,"r":`
	envelopeTail = `}`
)

func sealEnvelope(version int, record []byte) []byte {
	b := make([]byte, 0, len(envelopeHead)+12+len(envelopeMid)+len(record)+len(envelopeTail))
	b = append(b, envelopeHead...)
	b = strconv.AppendInt(b, int64(version), 10)
	b = append(b, envelopeMid...)
	b = append(b, record...)
	return append(b, envelopeTail...)
}

func openEnvelope(value []byte) (version int, record []byte, err error) {
	rest, ok := bytes.CutPrefix(value, []byte(envelopeHead))
	digits, rest, okMid := bytes.Cut(rest, []byte(envelopeMid))
	record, okTail := bytes.CutSuffix(rest, []byte(envelopeTail))
	if !ok || !okMid || !okTail {
		return 0, nil, fmt.Errorf("%w: the value is not a record's envelope", ErrDamaged)
	}
	version, err = strconv.Atoi(string(digits))
	if err != nil || version < 1 {
		return 0, nil, fmt.Errorf("%w: %q is not a schema version", ErrDamaged, digits)
	}
	return version, record, nil
}

// Upgrade turns the stored JSON of an older schema version into that of the
// table's current version.
type Upgrade func(version int, record []byte) ([]byte, error)

// schema is the version that a table writes, and how it reads older ones.
type schema struct {
	version int
	upgrade Upgrade
}

// open returns the record's JSON in the current version.
func (s schema) open(value []byte) ([]byte, error) {
	version, record, err := openEnvelope(value)
	if err != nil {
		return nil, err
	}
	switch {
	case version == s.version:
		return record, nil
	case version > s.version:
		return nil, fmt.Errorf("%w: schema version %d, this program knows versions up to %d: run the version that wrote it, or a later one",
			ErrNewerFormat, version, s.version)
	case s.upgrade == nil:
		return nil, fmt.Errorf("%w: schema version %d, and this program no longer reads versions before %d: start a version between the two first",
			ErrDamaged, version, s.version)
	}
	record, err = s.upgrade(version, record)
	if err != nil {
		return nil, fmt.Errorf("upgrade from schema version %d to %d: %w", version, s.version, err)
	}
	return record, nil
}
