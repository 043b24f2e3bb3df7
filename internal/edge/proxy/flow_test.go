package proxy

import (
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"longshore.dev/longshore/internal/edge/balance"
)

// answer serves connections until the listener is closed.
func answer(l net.Listener, each func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			each(c)
		}()
	}
}

// A flow ends when its target becomes unhealthy, unless it may go on.
func TestFlowsOfUnhealthyTargets(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprint("keep=", keep), func(t *testing.T) {
			inMemory(t, func(t *testing.T, m *memory, s *rig) {
				l, _ := m.Listen("tcp", "10.0.0.1:80")
				defer l.Close()
				check, _ := m.Listen("tcp", "10.0.0.1:81")
				for _, l := range []net.Listener{l, check} {
					go answer(l, func(c net.Conn) { io.Copy(c, c) })
				}
				table := layer4(simple(at("10.0.0.1")), balance.TCP)
				table.TargetGroups[0].HealthCheck = balance.HealthCheck{Port: 81, IntervalSeconds: 10, HealthyThreshold: 2}
				table.TargetGroups[0].KeepUnhealthyConnections = keep
				s.apply(table)
				time.Sleep(15 * time.Second)
				c, err := m.Dial(t.Context(), "tcp", s.Addr("l").String())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				check.Close()
				time.Sleep(time.Minute)
				synctest.Wait()
				if got := s.line(); got != "unhealthy Target.FailedHealthChecks" {
					t.Error(got)
				}
				_, err = c.Write([]byte("x"))
				if (err == nil) != keep {
					t.Errorf("a minute later: %v", err)
				}
			})
		})
	}
}

// The flows of a target that is deregistered may be left alone.
func TestDrainedFlowsMayGoOn(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprint("keep=", keep), func(t *testing.T) {
			inMemory(t, func(t *testing.T, m *memory, s *rig) {
				l, _ := m.Listen("tcp", "10.0.0.1:80")
				defer l.Close()
				go answer(l, func(c net.Conn) { io.Copy(c, c) })
				table := layer4(simple(at("10.0.0.1")), balance.TCP)
				table.TargetGroups[0].KeepConnections = keep
				s.apply(table)
				c, err := m.Dial(t.Context(), "tcp", s.Addr("l").String())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				synctest.Wait()
				table.TargetGroups[0].Targets = []balance.Target{{ID: "10.0.0.1", IP: "10.0.0.1", Port: 80, Draining: true}}
				s.apply(table)
				for _, after := range []time.Duration{299 * time.Second, 2 * time.Second} {
					time.Sleep(after)
					synctest.Wait()
					_, err = c.Write([]byte("x"))
					if err == nil {
						_, err = c.Read(make([]byte, 1))
					}
					if want := keep || after > time.Minute; (err == nil) != want {
						t.Errorf("%v later: %v, want it to go on: %v", after, err, want)
					}
				}
				if got := s.line(); got != "unused Target.NotRegistered" {
					t.Error(got)
				}
			})
		})
	}
}

// The flows of one address stay with one target, where the group says so.
func TestFlowsStickToTheirSource(t *testing.T) {
	inMemory(t, func(t *testing.T, m *memory, s *rig) {
		for _, ip := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
			l, _ := m.Listen("tcp", ip+":80")
			t.Cleanup(func() { l.Close() })
			go answer(l, func(c net.Conn) { io.WriteString(c, ip) })
		}
		for _, sticky := range []bool{true, false} {
			table := layer4(simple(at("10.0.0.1"), at("10.0.0.2"), at("10.0.0.3")), balance.TCP)
			table.TargetGroups[0].StickySource = sticky
			s.apply(table)
			met := map[string]bool{}
			for range 20 {
				c, err := m.Dial(t.Context(), "tcp", s.Addr("l").String())
				if err != nil {
					t.Fatal(err)
				}
				text, _ := io.ReadAll(c)
				c.Close()
				met[string(text)] = true
			}
			if (len(met) == 1) != sticky {
				t.Errorf("sticky %v: went to %v", sticky, met)
			}
		}
	})
}
