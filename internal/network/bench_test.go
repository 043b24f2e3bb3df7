package network

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func BenchmarkSandbox(b *testing.B) {
	for _, mode := range []Mode{ModeBridge, ModeAWSVPC, ModeNone, ModeHost} {
		req := Request{Mode: mode}
		switch mode {
		case ModeBridge:
			req.Ports = []PortMapping{{Protocol: "tcp", ContainerPort: 80}}
		case ModeAWSVPC:
			req.ENI = eni("10.77.0.10/24")
		}
		b.Run(string(mode)+"/setup", func(b *testing.B) { benchmark(b, req, true) })
		b.Run(string(mode)+"/teardown", func(b *testing.B) { benchmark(b, req, false) })
	}
}

// benchNode has RunDir on tmpfs, as nodes should.
func benchNode(b *testing.B) *Linux {
	newHost(b)
	opts := testOptions(b, "bench")
	must(b, os.MkdirAll(opts.RunDir, 0o700))
	must(b, unix.Mount("tmpfs", opts.RunDir, "tmpfs", 0, ""))
	b.Cleanup(func() { must(b, unix.Unmount(opts.RunDir, 0)) })
	return startNode(b, opts)
}

// benchmark times the setups of b.N sandboxes, or their teardowns, one by one.
func benchmark(b *testing.B, req Request, timeSetup bool) {
	l := benchNode(b)
	requests := make([]Request, b.N)
	for i := range requests {
		requests[i] = req
		requests[i].ID = fmt.Sprint("s", i)
		if req.ENI != nil {
			requests[i].ENI = eni(fmt.Sprintf("10.77.%d.%d/16", i/250, i%250+2))
		}
	}
	if timeSetup {
		b.ResetTimer()
	}
	for _, r := range requests {
		setup(b, l, r)
	}
	if timeSetup {
		b.StopTimer()
		var wg sync.WaitGroup
		for _, r := range requests {
			wg.Go(func() { must(b, l.Teardown(context.Background(), r.ID)) })
		}
		wg.Wait()
		return
	}
	b.ResetTimer()
	for _, r := range requests {
		must(b, l.Teardown(context.Background(), r.ID))
	}
}

func BenchmarkSetupConcurrent(b *testing.B) {
	l := benchNode(b)
	b.SetParallelism(16)
	ids := make(chan int, b.N)
	for i := range b.N {
		ids <- i
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			id := fmt.Sprint("s", <-ids)
			if _, err := l.Setup(context.Background(), Request{ID: id, Mode: ModeBridge}); err != nil {
				b.Error(err)
			}
			if err := l.Teardown(context.Background(), id); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkNew(b *testing.B) {
	newHost(b)
	opts := testOptions(b, "bench")
	for range b.N {
		l, err := New(opts)
		must(b, err)
		must(b, l.Close())
	}
}
