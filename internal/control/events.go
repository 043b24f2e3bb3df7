package control

import (
	"encoding/json"
	"net/http"
	"time"

	"longshore.dev/longshore/internal/wire"
)

// Times of a stream of events.
const (
	// eventBeat is how often an empty line says that the server is there.
	eventBeat = 10 * time.Second
	// eventLimit is how long who follows may take to receive one.
	eventLimit = 30 * time.Second
)

// serveEvents sends the account's events from now on, a line each, until one side ends it.
func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request) {
	call := s.callOf(r, "FollowEvents")
	if err := s.identify(r, nil, call); err != nil {
		s.answerAdmin(w, "FollowEvents", adminAnswer{}, err)
		return
	}
	sub, err := s.events.Subscribe(call.Account, call.Region)
	if err != nil {
		s.answerAdmin(w, "FollowEvents", adminAnswer{}, wire.Errorf("LimitExceededException", "%s", err))
		return
	}
	defer sub.Close()
	control, encoder := http.NewResponseController(w), json.NewEncoder(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	ticker := time.NewTicker(eventBeat)
	defer ticker.Stop()
	for {
		// A writer without deadlines is a test's.
		_ = control.SetWriteDeadline(time.Now().Add(eventLimit))
		if err := control.Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-ticker.C:
			if _, err := w.Write([]byte("\n")); err != nil {
				return
			}
		case e, open := <-sub.Events():
			var line any = e
			if !open {
				line = map[string]string{"error": sub.Err().Error()}
			}
			if err := encoder.Encode(line); err != nil || !open {
				return
			}
		}
	}
}
