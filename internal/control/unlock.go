package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"longshore.dev/longshore/internal/seal"
	"longshore.dev/longshore/internal/service/iam"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

const (
	// lookForKey is how often a locked server looks whether its root key is there,
	// sayLocked how often it says that it is not.
	lookForKey = 2 * time.Second
	sayLocked  = time.Minute
)

// inventory is how many sealed values the store holds, by the id of the key that sealed
// them and by what they are.
type inventory map[string]map[string]int

func (s *Server) inventory() inventory {
	all := inventory{}
	note := func(kind string, sealed []byte) {
		id := seal.KeyIDOf(sealed)
		if all[id] == nil {
			all[id] = map[string]int{}
		}
		all[id][kind]++
	}
	if a, ok := s.authorities.Get(s.db.Snapshot(), store.Scope{}, authorityID); ok {
		note("the key of the server's authority", a.Key)
	}
	s.iam.EachSealed(note)
	return all
}

// text tells a person what the keys' absence costs.
func (i inventory) text(ids []string) string {
	if len(ids) == 0 {
		return "anything that will be sealed"
	}
	var parts []string
	for _, id := range ids {
		for _, kind := range slices.Sorted(maps.Keys(i[id])) {
			if n := i[id][kind]; n > 1 {
				parts = append(parts, fmt.Sprintf("%d × %s (key %s)", n, kind, id))
			} else {
				parts = append(parts, fmt.Sprintf("%s (key %s)", kind, id))
			}
		}
	}
	return strings.Join(parts, ", ")
}

// unknown are the ids of keys that are not there and that something was sealed by.
func (s *Server) unknown(i inventory) (ids []string) {
	for _, id := range slices.Sorted(maps.Keys(i)) {
		if !s.ring.Knows(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// unlock takes up the root key, making one for a store that holds nothing sealed. When
// the key is missing that sealed what the server can't be without, it waits for it:
// to go on with another would lose what was sealed, and nobody would have decided so.
func (s *Server) unlock(ctx context.Context) error {
	reason := s.takeKey()
	if reason == nil {
		return nil
	}
	defer s.serveLocked()()
	var said time.Time
	for ; reason != nil; reason = s.takeKey() {
		if time.Since(said) >= sayLocked {
			said = time.Now()
			s.log.Error("the server is locked, and goes on by itself when its root key is there; tasks keep running", "reason", reason)
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), reason)
		case <-time.After(lookForKey):
		}
	}
	s.log.Warn("the root key is there: the server goes on")
	return nil
}

// takeKey reads the root key; the error says what can't be opened without it.
func (s *Server) takeKey() error {
	keys, err := s.config.RootKey.load(s.config.DataDir)
	held := s.inventory()
	if errors.Is(err, fs.ErrNotExist) && len(held) == 0 {
		keys, err = s.createKey()
	}
	if err != nil {
		return fmt.Errorf("%w. The root key has to be at %s. Without it the server can't open %s",
			err, s.config.RootKey.where(s.config.DataDir), held.text(slices.Sorted(maps.Keys(held))))
	}
	if err := s.ring.Set(keys); err != nil {
		return err
	}
	if err := s.config.RootKey.protect(s.config.DataDir, keys); err != nil {
		return fmt.Errorf("protect the root key by its passphrase: %w", err)
	}
	if lost := s.unknown(held); len(lost) > 0 {
		err := fmt.Errorf("the root key at %s is %s. Without the keys in brackets the server can't open %s: put them back there",
			s.config.RootKey.where(s.config.DataDir), strings.Join(s.ring.KeyIDs(), " and "), held.text(lost))
		if s.cannotDoWithout() {
			return err
		}
		s.log.Error("secrets are lost until their root key is back", "reason", err)
	}
	return nil
}

func (s *Server) createKey() ([][]byte, error) {
	f, err := s.config.RootKey.file(s.config.DataDir)
	if err != nil {
		return nil, err
	}
	return f.Create()
}

// cannotDoWithout tells whether something is sealed by a missing key that the server
// needs to be reached at all: its authority's key, or the root user's.
func (s *Server) cannotDoWithout() bool {
	if a, ok := s.authorities.Get(s.db.Snapshot(), store.Scope{}, authorityID); ok && !s.ring.Knows(seal.KeyIDOf(a.Key)) &&
		s.config.TLS.wanted(s.listener.Addr()) && s.config.TLS.CertFile == "" {
		return true
	}
	if s.config.Root != (iam.AccessKey{}) {
		return false // it is given, and will be sealed anew
	}
	sealed, ok := s.iam.RootSealed(s.config.Account)
	return ok && !s.ring.Knows(seal.KeyIDOf(sealed))
}

// serveLocked answers everybody that the server is locked, in the clear or, where the
// API would be encrypted, not at all: nobody could be shown that it is the server.
func (s *Server) serveLocked() (end func()) {
	if s.config.TLS.wanted(s.listener.Addr()) {
		return func() {}
	}
	server := wire.NewHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "5")
		w.Header().Set("Connection", "close")
		writeLocked(w)
	}), s.config.Limits)
	server.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)
	l := &lentListener{Listener: s.listener}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }() // ends with Close
	return func() {
		_ = server.Close()
		<-done
		l.giveBack()
	}
}

func writeLocked(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Errortype", "ServiceUnavailable")
	w.WriteHeader(http.StatusServiceUnavailable)
	_ = json.NewEncoder(w).Encode(map[string]string{
		"__type": "ServiceUnavailable", "message": "The server is locked: its root key is not there. Its log says where to put it.",
	})
}

// lentListener lets a server use a listener for a while: to close it ends its Accept
// and leaves the socket open.
type lentListener struct{ net.Listener }

type deadliner interface{ SetDeadline(time.Time) error }

// Close implements net.Listener.
func (l *lentListener) Close() error {
	if d, ok := l.Listener.(deadliner); ok {
		return d.SetDeadline(time.Unix(1, 0))
	}
	return nil
}

func (l *lentListener) giveBack() {
	if d, ok := l.Listener.(deadliner); ok {
		_ = d.SetDeadline(time.Time{}) // a listener that has just had one can take it back
	}
}
