package store

import (
	"fmt"
	"strings"
)

// Scope is the account and region that a record belongs to. The zero Scope is
// for records that belong to none.
type Scope struct {
	Account string
	Region  string
}

// Ref names a record in its table.
type Ref struct {
	Scope
	ID string
}

// keyPrefix begins every key; the number is the version of the key layout
// ls/1/<account|->/<region|->/<table>/<id>.
const keyPrefix = "ls/1/"

const maxIDBytes = 2048

func scopePrefix(table string, s Scope) string {
	return keyPrefix + orDash(s.Account) + "/" + orDash(s.Region) + "/" + table + "/"
}

func checkRef(s Scope, id string) error {
	if id == "" {
		return fmt.Errorf("the record's id is empty")
	}
	if len(id) > maxIDBytes {
		return fmt.Errorf("%w: the record's id has %d bytes, at most %d are possible", ErrTooLarge, len(id), maxIDBytes)
	}
	return checkScope(s)
}

func checkScope(s Scope) error {
	for _, part := range []string{s.Account, s.Region} {
		if part == "-" || strings.Contains(part, "/") || len(part) > 128 {
			return fmt.Errorf("%q cannot be an account or region", part)
		}
	}
	return nil
}

// splitKey takes a physical key apart; ok is false for a key that this layout
// does not know.
func splitKey(key string) (table string, ref Ref, ok bool) {
	rest, ok := strings.CutPrefix(key, keyPrefix)
	if !ok {
		return "", Ref{}, false
	}
	account, rest, ok1 := strings.Cut(rest, "/")
	region, rest, ok2 := strings.Cut(rest, "/")
	table, id, ok3 := strings.Cut(rest, "/")
	if !ok1 || !ok2 || !ok3 || account == "" || region == "" || table == "" || id == "" {
		return "", Ref{}, false
	}
	return table, Ref{Scope: Scope{Account: fromDash(account), Region: fromDash(region)}, ID: id}, true
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func fromDash(s string) string {
	if s == "-" {
		return ""
	}
	return s
}
