package image

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// configFile is an image configuration as OCI defines it, with Docker's health check.
type configFile struct {
	ocispec.Platform
	Config struct {
		ocispec.ImageConfig
		Healthcheck *struct {
			Test        []string
			Interval    time.Duration
			Timeout     time.Duration
			StartPeriod time.Duration
			Retries     int
		}
	} `json:"config"`
	RootFS struct {
		Type    string          `json:"type"`
		DiffIDs []digest.Digest `json:"diff_ids"`
	} `json:"rootfs"`
}

func parseConfig(data []byte) (configFile, error) {
	var file configFile
	if err := json.Unmarshal(data, &file); err != nil {
		return configFile{}, fail(ErrInvalid, "image configuration is not valid JSON: %w", err)
	}
	if t := file.RootFS.Type; t != "" && t != "layers" {
		return configFile{}, fail(ErrInvalid, "image root file system has the unknown type %q", t)
	}
	for _, id := range file.RootFS.DiffIDs {
		if err := id.Validate(); err != nil {
			return configFile{}, fail(ErrInvalid, "image configuration lists the layer %q: %w", id, err)
		}
	}
	return file, nil
}

// runs tells whether the configuration is for a platform that matcher accepts.
// Configurations that name no platform are taken at their word.
func (f *configFile) runs(matcher platforms.Matcher) bool {
	if f.OS == "" || f.Architecture == "" {
		return true
	}
	return matcher.Match(platforms.Normalize(f.Platform))
}

// config converts to the contract's form.
func (f *configFile) config() Config {
	c := f.Config
	out := Config{
		Entrypoint:   c.Entrypoint,
		Cmd:          c.Cmd,
		Env:          c.Env,
		WorkingDir:   c.WorkingDir,
		User:         c.User,
		ExposedPorts: slices.Sorted(maps.Keys(c.ExposedPorts)),
		Volumes:      slices.Sorted(maps.Keys(c.Volumes)),
		Labels:       c.Labels,
		StopSignal:   c.StopSignal,
	}
	if h := c.Healthcheck; h != nil && len(h.Test) > 0 && h.Test[0] != "NONE" {
		out.HealthCheck = &HealthCheck{
			Test: h.Test, Interval: h.Interval, Timeout: h.Timeout,
			StartPeriod: h.StartPeriod, Retries: h.Retries,
		}
	}
	return out
}

// clone copies an image, so that callers cannot change what the store caches.
func (i Image) clone() Image {
	c := &i.Config
	c.Entrypoint = slices.Clone(c.Entrypoint)
	c.Cmd = slices.Clone(c.Cmd)
	c.Env = slices.Clone(c.Env)
	c.ExposedPorts = slices.Clone(c.ExposedPorts)
	c.Volumes = slices.Clone(c.Volumes)
	c.Labels = maps.Clone(c.Labels)
	if c.HealthCheck != nil {
		h := *c.HealthCheck
		h.Test = slices.Clone(h.Test)
		c.HealthCheck = &h
	}
	return i
}
