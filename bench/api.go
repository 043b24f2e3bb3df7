package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"golang.org/x/sync/errgroup"
)

// apiCallers is how many callers there are at once in the second row of a pair.
const apiCallers = 16

// measureAPI times RunTask and DescribeTasks without containers: the tasks stay
// PENDING on simulated agents, which take what they are told and run nothing.
func measureAPI(ctx context.Context, b *bench) (err error) {
	s, err := b.open(ctx, "api", "server")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	fleet, err := openFleet(ctx, s)
	if err != nil {
		return err
	}
	defer fleet.close()
	a := api{b: b, server: s, recorder: &recorder{next: s.client.Transport}}
	for _, count := range []int32{1, 10} {
		run := func(ctx context.Context, client *ecs.Client) error {
			out, err := client.RunTask(ctx, &ecs.RunTaskInput{Cluster: aws.String(fleetCluster), TaskDefinition: &fleet.definition, Count: &count})
			if err == nil && len(out.Tasks) != int(count) {
				err = fmt.Errorf("RunTask placed %d of %d tasks: %s", len(out.Tasks), count, failures(out.Failures))
			}
			return err
		}
		name := fmt.Sprintf("RunTask, count=%d", count)
		note := fmt.Sprintf("on %d simulated agents, nothing runs; floor: canned answer after one fdatasync", fleetSize)
		if err := a.pair(ctx, name, note, b.samples(250, 20), true, run); err != nil {
			return err
		}
	}
	tasks, err := s.ecs().ListTasks(ctx, &ecs.ListTasksInput{Cluster: aws.String(fleetCluster), MaxResults: aws.Int32(10)})
	if err != nil {
		return err
	}
	describe := func(ctx context.Context, client *ecs.Client) error {
		out, err := client.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: aws.String(fleetCluster), Tasks: tasks.TaskArns})
		if err == nil && len(out.Tasks) != 10 {
			err = fmt.Errorf("DescribeTasks found %d of 10 tasks: %s", len(out.Tasks), failures(out.Failures))
		}
		return err
	}
	return a.pair(ctx, "DescribeTasks, 10 tasks", "floor: the same client, a canned answer", b.samples(900, 100), false, describe)
}

// api measures calls of one server.
type api struct {
	b        *bench
	server   *server
	recorder *recorder
}

// pair measures an operation with one caller and with many, each beside its
// floor: the same client and calls, answered by a server that says one thing. The
// number of calls stays within the burst that the server's throttle allows.
func (a *api) pair(ctx context.Context, name, note string, calls int, durable bool, call func(context.Context, *ecs.Client) error) error {
	recording := ecsClient(a.server.endpoint, &http.Client{Transport: a.recorder})
	if err := call(ctx, recording); err != nil {
		return err
	}
	mute, err := a.canned(durable)
	if err != nil {
		return err
	}
	defer mute.Close()
	for _, callers := range []int{1, apiCallers} {
		each := fmt.Sprintf("%s, %d at once", name, callers)
		canned, real := ecsClient(mute.url, a.server.client), a.server.ecs()
		_, floor, err := burst(ctx, callers, calls, func(ctx context.Context) error { return call(ctx, canned) })
		if err != nil {
			return fmt.Errorf("floor of %s: %w", each, err)
		}
		a.b.add(row{Name: "floor: " + each, Unit: "calls/s", Samples: calls, Median: floor})
		before, err := a.server.cpu()
		if err != nil {
			return err
		}
		samples, rate, err := burst(ctx, callers, calls, func(ctx context.Context) error { return call(ctx, real) })
		if err != nil {
			return fmt.Errorf("%s: %w", each, err)
		}
		after, err := a.server.cpu()
		if err != nil {
			return err
		}
		a.b.add(row{
			Name: each, Unit: "calls/s", Samples: calls, Median: rate, Floor: "floor: " + each,
			Note: fmt.Sprintf("%s; a call takes %s ms (p99 %s), of the server's CPU %s ms", note,
				figure(samples.quantile(0.5)), figure(samples.quantile(0.99)), figure(milliseconds(after-before)/float64(calls))),
		})
	}
	return nil
}

// burst makes so many calls, from so many callers, and returns what each took and
// how many there were in a second.
func burst(ctx context.Context, callers, calls int, call func(context.Context) error) (times, float64, error) {
	samples := make(times, calls)
	var next atomic.Int64
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for range callers {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= calls {
					return nil
				}
				began := time.Now()
				if err := call(ctx); err != nil {
					return err
				}
				samples[i] = time.Since(began)
			}
		})
	}
	err := group.Wait()
	return samples, float64(calls) / time.Since(began).Seconds(), err
}

// recorder keeps the last answer that passes.
type recorder struct {
	next http.RoundTripper
	mu   sync.Mutex
	kind string
	body []byte
}

// RoundTrip implements http.RoundTripper.
func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	answer, err := r.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kind, r.body = answer.Header.Get("Content-Type"), body
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer, nil
}

// cannedServer answers everything alike.
type cannedServer struct {
	url    string
	server http.Server
	file   *os.File
}

// canned serves the recorded answer; a durable one writes each request to disk first.
func (a *api) canned(durable bool) (*cannedServer, error) {
	kind, body := a.recorder.kind, a.recorder.body
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &cannedServer{url: "http://" + listener.Addr().String()}
	if durable {
		if c.file, err = os.Create(filepath.Join(a.b.dir, "canned")); err != nil {
			return nil, errors.Join(err, listener.Close())
		}
	}
	c.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request, err := io.ReadAll(r.Body)
		if err == nil && durable {
			err = appendDurably(c.file, request)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(body)
	})
	go func() { _ = c.server.Serve(listener) }()
	return c, nil
}

// Close ends it.
func (c *cannedServer) Close() error {
	err := c.server.Close()
	if c.file != nil {
		err = errors.Join(err, c.file.Close())
	}
	return err
}
