package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// measureStart times process start → first authenticated answer, with nothing on
// disk and with the data of an earlier life.
func measureStart(ctx context.Context, b *bench) error {
	n := b.samples(20, 3)
	var bare, cold, warm times
	for range n {
		began := time.Now()
		if err := exec.CommandContext(ctx, b.binary, "version").Run(); err != nil {
			return err
		}
		bare = append(bare, time.Since(began))
		for _, samples := range []*times{&cold, &warm} {
			took, err := b.timeStart(ctx)
			if err != nil {
				return err
			}
			*samples = append(*samples, took)
		}
		if err := os.RemoveAll(filepath.Join(b.dir, "start")); err != nil {
			return err
		}
	}
	const floor = "floor: exec of `longshore version`"
	b.add(latency(floor, bare, false))
	for _, r := range []row{latency("start → first answer, new data", cold, true), latency("start → first answer, kept data", warm, true)} {
		r.Budget, r.Goal, r.Floor = 500, 100, floor
		r.Note = "`longshore server`; signed GetCallerIdentity tried every 0.5 ms"
		b.add(r)
	}
	return nil
}

func (b *bench) timeStart(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	s, err := b.launch("start", "server")
	if err != nil {
		return 0, err
	}
	err = s.ready(ctx)
	took := time.Since(began)
	return took, errors.Join(err, s.stop())
}
