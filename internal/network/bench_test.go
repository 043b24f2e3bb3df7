package network

import (
	"context"
	"fmt"
	"testing"
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

func benchmark(b *testing.B, req Request, timeSetup bool) {
	l := newNode(b, "bench")
	b.StopTimer()
	for i := range b.N {
		req.ID = fmt.Sprint("s", i)
		if timeSetup {
			b.StartTimer()
		}
		_, err := l.Setup(context.Background(), req)
		b.StopTimer()
		must(b, err)
		if !timeSetup {
			b.StartTimer()
		}
		must(b, l.Teardown(context.Background(), req.ID))
		b.StopTimer()
	}
}

func BenchmarkSetupConcurrent(b *testing.B) {
	l := newNode(b, "bench")
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
