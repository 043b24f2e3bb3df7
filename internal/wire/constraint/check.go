package constraint

import (
	"embed"
	"fmt"
	"reflect"
	"sync"

	"longshore.dev/longshore/internal/wire/constraint/table"
)

//go:embed tables/*.txt
var tables embed.FS

// Checker checks the inputs of all services that have a table. It may be used by
// many goroutines.
type Checker struct {
	services sync.Map // service name → *service
}

// New returns a Checker. It reads nothing yet.
func New() *Checker { return &Checker{} }

// service is a loaded table with the plans made from it so far.
type service struct {
	load  sync.Once
	table *table.Table
	err   error
	rules rules
	plans sync.Map // planKey → *plan
}

// Check checks the input of one operation; it fits wire.Chain.Constraints.
// The error is an *Error that a client is to be shown, or says that the service
// has no table. An operation that the table does not know, because the SDK is
// newer than the model, is not checked.
//
// present tells of a required number or boolean that is zero whether the client
// gave it; its path consists of wire names ("tags.1.member.key"). Nil counts all
// of them as given.
func (c *Checker) Check(serviceName, operation string, in any, present func(path string) bool) error {
	s, err := c.service(serviceName)
	if err != nil {
		return err
	}
	input, ok := s.table.Operations[operation]
	if !ok || input == table.None {
		return nil
	}
	v := reflect.Indirect(reflect.ValueOf(in))
	if v.Kind() != reflect.Struct {
		return fmt.Errorf("constraint: the input of %s %s is a %T, not a pointer to a struct", serviceName, operation, in)
	}
	p, err := s.plan(input, v.Type())
	if err != nil {
		return err
	}
	w := walk{service: s, present: present}
	w.structure(p, v, nil)
	if w.failed != nil {
		return w.failed
	}
	return w.error(s.rules.codeOf(operation))
}

// service returns the service's table, read when it is first asked for.
func (c *Checker) service(name string) (*service, error) {
	known, ok := c.services.Load(name)
	if !ok {
		known, _ = c.services.LoadOrStore(name, &service{})
	}
	s := known.(*service)
	s.load.Do(func() {
		text, err := tables.ReadFile("tables/" + name + ".txt")
		if err != nil {
			s.err = fmt.Errorf("constraint: %s has no table; add it to the go:generate line and generate again: %w", name, err)
			return
		}
		if s.table, err = table.Parse(text); err != nil {
			s.err = fmt.Errorf("constraint: the table of %s: %w", name, err)
		}
		s.rules = rulesOf(name)
	})
	return s, s.err
}
