package events

import (
	"errors"
	"fmt"
	"testing"
)

func TestBus(t *testing.T) {
	b := New()
	if b.Wanted("1", "r") {
		t.Error("nobody subscribes, and it is wanted")
	}
	b.Publish(Event{ID: "before", Account: "1", Region: "r"})
	s, err := b.Subscribe("1", "r")
	if err != nil || !b.Wanted("1", "r") || b.Wanted("1", "other") || b.Wanted("2", "r") {
		t.Fatal(err)
	}
	for i, account := range []string{"1", "2", "1"} {
		b.Publish(Event{ID: fmt.Sprint(i), Account: account, Region: "r"})
	}
	for _, want := range []string{"0", "2"} {
		if e := <-s.Events(); e.ID != want {
			t.Errorf("got %s, want %s", e.ID, want)
		}
	}
	s.Close()
	s.Close()
	if _, open := <-s.Events(); open || s.Err() != nil || b.Wanted("1", "r") {
		t.Errorf("after its end: %v, %v", open, s.Err())
	}
}

// One that does not keep up is cut off, and nobody waits for it; the others go on.
func TestSlowSubscriberIsCutOff(t *testing.T) {
	b := New()
	slow, _ := b.Subscribe("1", "r")
	quick, _ := b.Subscribe("1", "r")
	for i := range buffered + 1 {
		b.Publish(Event{ID: fmt.Sprint(i), Account: "1", Region: "r"})
		<-quick.Events()
	}
	n := 0
	for range slow.Events() {
		n++
	}
	if n != buffered || !errors.Is(slow.Err(), ErrSlow) || quick.Err() != nil {
		t.Errorf("it got %d: %v; the other one %v", n, slow.Err(), quick.Err())
	}
	b.Close()
	if _, open := <-quick.Events(); open || !errors.Is(quick.Err(), ErrClosed) {
		t.Errorf("after the end: %v", quick.Err())
	}
	if _, err := b.Subscribe("1", "r"); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestSubscriptionsAreBounded(t *testing.T) {
	b := New()
	for range maxSubscriptions {
		if _, err := b.Subscribe("1", "r"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Subscribe("1", "r"); err == nil {
		t.Error("there was no bound")
	}
}
