package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/image/sample"
)

const (
	layerFile  = 1 << 20 // bytes of a file in a layer
	layerLimit = 100 << 20
)

// measureImages times pulls, with their unpacking, of images that the node has
// never seen, from a registry of our own on loopback.
func measureImages(ctx context.Context, b *bench) (err error) {
	if os.Geteuid() != 0 {
		b.add(row{Name: "image pull", Note: "needs root"})
		return nil
	}
	registry, err := openRegistry()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, registry.server.Close()) }()
	s, err := b.open(ctx, "images", "up", "--no-sample", "--stop-tasks")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := awaitNode(ctx, s.ecs()); err != nil {
		return err
	}
	for _, c := range []struct {
		megabytes, samples int
	}{{5, b.samples(5, 2)}, {500, b.samples(1, 0)}} {
		if err := b.pulls(ctx, s, registry, c.megabytes, c.samples); err != nil {
			return err
		}
	}
	return nil
}

// pulls measures images of one size, each beside its floor.
func (b *bench) pulls(ctx context.Context, s *server, registry *registry, megabytes, n int) error {
	var pulls, floors times
	var cpu time.Duration
	layers, compressed := 0, 0
	for i := range n {
		name := fmt.Sprintf("bench/%d-%d", megabytes, i)
		blobs, err := registry.push(name, int64(megabytes)<<20)
		if err != nil {
			return err
		}
		layers, compressed = len(blobs), 0
		for _, blob := range blobs {
			compressed += len(blob)
		}
		if err := floors.take(func() error { return fetchAndUnpack(ctx, registry, blobs, filepath.Join(b.dir, "unpacked")) }); err != nil {
			return err
		}
		if err := os.RemoveAll(filepath.Join(b.dir, "unpacked")); err != nil {
			return err
		}
		before, err := s.cpu()
		if err != nil {
			return err
		}
		took, err := pullOnce(ctx, s.ecs(), registry.address+"/"+name+":latest")
		if err != nil {
			return err
		}
		after, err := s.cpu()
		if err != nil {
			return err
		}
		pulls, cpu = append(pulls, took), cpu+after-before
		registry.forget()
	}
	if n == 0 {
		return nil
	}
	floor := latency(fmt.Sprintf("floor: fetch, gunzip, write, syncfs, %d MB", megabytes), floors, false)
	floor.Note = "one layer after the other, by a simple program"
	r := latency(fmt.Sprintf("image pull and unpack, %d MB", megabytes), pulls, false)
	r.Floor = floor.Name
	r.Note = fmt.Sprintf("pullStartedAt → pullStoppedAt of a task; layers: %d, compressed %s MB; CPU of server and agent from the call to STOPPED: %s ms",
		layers, figure(float64(compressed)/1e6), figure(milliseconds(cpu)/float64(n)))
	b.add(floor)
	b.add(r)
	return nil
}

// pullOnce runs a task of an image to its end, and returns what the pull took.
func pullOnce(ctx context.Context, client *ecs.Client, image string) (time.Duration, error) {
	registered, err := client.RegisterTaskDefinition(ctx, &ecs.RegisterTaskDefinitionInput{
		Family: aws.String("pull"), NetworkMode: types.NetworkModeNone,
		ContainerDefinitions: []types.ContainerDefinition{{
			Name: aws.String("main"), Image: &image, Memory: aws.Int32(taskMemory), Cpu: taskCPU, Essential: aws.Bool(true),
			EntryPoint: []string{"/sample"}, Command: []string{"exit", "0"},
		}},
	})
	if err != nil {
		return 0, err
	}
	out, err := client.RunTask(ctx, &ecs.RunTaskInput{TaskDefinition: registered.TaskDefinition.TaskDefinitionArn})
	if err != nil {
		return 0, err
	}
	if len(out.Tasks) != 1 {
		return 0, fmt.Errorf("RunTask placed nothing: %s", failures(out.Failures))
	}
	var took time.Duration
	err = pollFor(ctx, stormLimit, 10*time.Millisecond, "the image is pulled and its task has ended", func(ctx context.Context) (bool, error) {
		out, err := client.DescribeTasks(ctx, &ecs.DescribeTasksInput{Tasks: []string{aws.ToString(out.Tasks[0].TaskArn)}})
		if err != nil || len(out.Tasks) != 1 || aws.ToString(out.Tasks[0].LastStatus) != "STOPPED" {
			return false, err
		}
		t := out.Tasks[0]
		if t.PullStartedAt == nil || t.PullStoppedAt == nil {
			return false, fmt.Errorf("the image was not pulled: %s", aws.ToString(t.StoppedReason))
		}
		took = t.PullStoppedAt.Sub(*t.PullStartedAt)
		return true, nil
	})
	return took, err
}

// fetchAndUnpack is the least that a pull is.
func fetchAndUnpack(ctx context.Context, registry *registry, blobs [][]byte, into string) error {
	for _, blob := range blobs {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+registry.address+"/v2/x/blobs/"+digestOf(blob), nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		err = unpackTo(answer.Body, into)
		if err = errors.Join(err, answer.Body.Close()); err != nil {
			return err
		}
	}
	dir, err := os.Open(into)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(dir.Fd())), dir.Close())
}

func unpackTo(compressed io.Reader, into string) error {
	plain, err := gzip.NewReader(compressed)
	if err != nil {
		return err
	}
	for archive := tar.NewReader(plain); ; {
		entry, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(into, entry.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, archive)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
}

// registry serves blobs and manifests from memory, to anybody on loopback.
type registry struct {
	address string
	server  http.Server
	mu      sync.Mutex
	blobs   map[string][]byte // by digest
	images  map[string][]byte // manifests by "name/tag"
	random  *rand.ChaCha8
}

func openRegistry() (*registry, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &registry{address: listener.Addr().String(), random: rand.NewChaCha8([32]byte{})}
	r.forget()
	r.server.Handler = r
	go func() { _ = r.server.Serve(listener) }()
	return r, nil
}

func (r *registry) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blobs, r.images = map[string][]byte{}, map[string][]byte{}
}

// ServeHTTP implements http.Handler: what a pull asks for, and no more.
func (r *registry) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	path := strings.TrimPrefix(request.URL.Path, "/v2/")
	name, digest, isBlob := strings.Cut(path, "/blobs/")
	image, tag, isManifest := strings.Cut(path, "/manifests/")
	r.mu.Lock()
	body, found := r.blobs[digest], isBlob
	if isManifest {
		if body, found = r.images[image]; !found || strings.HasPrefix(tag, "sha256:") {
			body, found = r.blobs[tag], true
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		w.Header().Set("Docker-Content-Digest", digestOf(body))
	}
	r.mu.Unlock()
	_ = name
	if path != "" && (!found || body == nil) {
		http.NotFound(w, request)
		return
	}
	http.ServeContent(w, request, "", time.Time{}, bytes.NewReader(body))
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// push makes an image of about size bytes with the sample in it, all layers new,
// and returns them.
func (r *registry) push(name string, size int64) (layers [][]byte, err error) {
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
		Size      int    `json:"size"`
	}
	var described []descriptor
	var diffs []string
	for n := 0; size > 0; n++ {
		plain, err := r.layer(n, min(size, layerLimit))
		if err != nil {
			return nil, err
		}
		var packed bytes.Buffer
		writer, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
		if err != nil {
			return nil, err
		}
		if _, err := writer.Write(plain); err != nil {
			return nil, err
		}
		if err := writer.Close(); err != nil {
			return nil, err
		}
		layers, diffs = append(layers, packed.Bytes()), append(diffs, digestOf(plain))
		described = append(described, descriptor{"application/vnd.oci.image.layer.v1.tar+gzip", digestOf(packed.Bytes()), packed.Len()})
		size -= layerLimit
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": described,
		"config": descriptor{"application/vnd.oci.image.config.v1+json", digestOf(config), len(config)},
	})
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, blob := range append(layers[:len(layers):len(layers)], config, manifest) {
		r.blobs[digestOf(blob)] = blob
	}
	r.images[name] = manifest
	return layers, nil
}

// layer is a tar of the sample, in the first layer, and files that compress to
// about half, as programs do.
func (r *registry) layer(n int, size int64) ([]byte, error) {
	var out bytes.Buffer
	archive := tar.NewWriter(&out)
	add := func(name string, data []byte) error {
		err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data)), Typeflag: tar.TypeReg})
		if err == nil {
			_, err = archive.Write(data)
		}
		return err
	}
	if n == 0 {
		program, err := sample.Program()
		if err == nil {
			err = add("sample", program)
		}
		if err != nil {
			return nil, err
		}
	}
	data := make([]byte, layerFile)
	for i := 0; int64(out.Len()) < size; i++ {
		for at := 0; at < len(data); at += 128 {
			if _, err := r.random.Read(data[at : at+64]); err != nil {
				return nil, err
			}
		}
		if err := add(fmt.Sprintf("data/%d-%d", n, i), data); err != nil {
			return nil, err
		}
	}
	err := archive.Close()
	return out.Bytes(), err
}
