package imagetest

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Named is an image with the names under which an archive holds it.
type Named struct {
	Image *Image
	Names []string
}

// OCIArchive builds an OCI layout archive.
func OCIArchive(t testing.TB, images ...Named) []byte {
	t.Helper()
	idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}}
	entries := []Entry{File(ocispec.ImageLayoutFile, `{"imageLayoutVersion":"1.0.0"}`)}
	seen := map[string]bool{}
	for _, n := range images {
		for _, name := range n.Names {
			d := n.Image.Descriptor
			d.Annotations = map[string]string{"io.containerd.image.name": name}
			idx.Manifests = append(idx.Manifests, d)
		}
		if len(n.Names) == 0 {
			idx.Manifests = append(idx.Manifests, n.Image.Descriptor)
		}
		for _, d := range slices.Sorted(maps.Keys(n.Image.Blobs)) {
			path := "blobs/" + strings.ReplaceAll(d.String(), ":", "/")
			if !seen[path] {
				entries = append(entries, File(path, string(n.Image.Blobs[d])))
			}
			seen[path] = true
		}
	}
	entries = append(entries, File(ocispec.ImageIndexFile, string(mustJSON(t, idx))))
	return Tar(t, entries...)
}

// DockerArchive builds an archive as `docker save` did before it knew OCI: plain
// layers and manifest.json.
func DockerArchive(t testing.TB, images ...Named) []byte {
	t.Helper()
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var list []entry
	var entries []Entry
	for _, n := range images {
		m := n.Image.Manifest
		e := entry{Config: m.Config.Digest.Encoded() + ".json", RepoTags: n.Names}
		entries = append(entries, File(e.Config, string(n.Image.Blobs[m.Config.Digest])))
		for _, l := range m.Layers {
			path := l.Digest.Encoded() + "/layer.tar"
			e.Layers = append(e.Layers, path)
			entries = append(entries, File(path, string(n.Image.Blobs[l.Digest])))
		}
		list = append(list, e)
	}
	data, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return Tar(t, append(entries, File("manifest.json", string(data)))...)
}
