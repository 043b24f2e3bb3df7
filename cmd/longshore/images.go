package main

import (
	"time"

	"longshore.dev/longshore/internal/image"
	"longshore.dev/longshore/internal/node"
)

// imageFlags are the settings for a node's images. Those of Amazon's agent are
// read from its variables too.
type imageFlags struct {
	ImagePullBehavior       string        `help:"When registries are asked: default (always; what is here serves when they fail), always, once or prefer-cached." env:"LONGSHORE_IMAGE_PULL_BEHAVIOR,ECS_IMAGE_PULL_BEHAVIOR" default:"default" enum:"default,always,once,prefer-cached"`
	InsecureRegistries      []string      `help:"Registries (HOST or HOST:PORT) that may be spoken to in the clear or without a known certificate." env:"LONGSHORE_INSECURE_REGISTRIES" placeholder:"HOST"`
	RegistryMirrors         []string      `help:"Mirrors that are asked before a registry is, without its credentials, as docker.io=https://mirror:5000." env:"LONGSHORE_REGISTRY_MIRRORS" placeholder:"HOST=URL"`
	RegistryCA              string        `name:"registry-ca" help:"PEM file of certificates to check registries with, besides the system's." env:"LONGSHORE_REGISTRY_CA" type:"path" placeholder:"FILE"`
	DisableImageCleanup     bool          `help:"Keep images that nobody uses." env:"LONGSHORE_DISABLE_IMAGE_CLEANUP,ECS_DISABLE_IMAGE_CLEANUP"`
	ImageCleanupInterval    time.Duration `help:"How often unused images are removed." env:"LONGSHORE_IMAGE_CLEANUP_INTERVAL,ECS_IMAGE_CLEANUP_INTERVAL" default:"30m" placeholder:"DURATION"`
	ImageMinimumCleanupAge  time.Duration `help:"How long an image stays after it was pulled and last used." env:"LONGSHORE_IMAGE_MINIMUM_CLEANUP_AGE,ECS_IMAGE_MINIMUM_CLEANUP_AGE" default:"1h" placeholder:"DURATION"`
	NumImagesDeletePerCycle int           `help:"How many images one cleanup removes." env:"LONGSHORE_NUM_IMAGES_DELETE_PER_CYCLE,ECS_NUM_IMAGES_DELETE_PER_CYCLE" default:"5" placeholder:"N"`
	ImageDiskPercent        int           `help:"How full the disk may be before unused images are removed whatever their age." env:"LONGSHORE_IMAGE_DISK_PERCENT" default:"85" placeholder:"PERCENT"`
}

func (f *imageFlags) images() node.ImageSettings {
	return node.ImageSettings{
		PullBehavior: image.PullPolicy(f.ImagePullBehavior), Insecure: f.InsecureRegistries, Mirrors: f.RegistryMirrors, CAFile: f.RegistryCA,
		Cleanup: image.Cleanup{
			Disabled: f.DisableImageCleanup, Interval: f.ImageCleanupInterval, MinimumAge: f.ImageMinimumCleanupAge,
			PerRound: f.NumImagesDeletePerCycle, DiskPercent: f.ImageDiskPercent,
		},
	}
}
