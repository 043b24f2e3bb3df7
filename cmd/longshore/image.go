package main

import (
	"context"
	"fmt"
	"os"

	"longshore.dev/longshore/internal/node"
)

type imageCommand struct {
	Import imageImport `cmd:"" help:"Import a docker-save or OCI archive."`
	List   imageList   `cmd:"" help:"List the images that are present."`
}

type imageImport struct {
	dataFlag
	File string `arg:"" help:"Archive to import; - reads standard input." placeholder:"FILE"`
}

// Run imports into the node of the data directory.
func (i *imageImport) Run(ctx context.Context, c *console) error {
	archive := os.Stdin
	if i.File != "-" {
		file, err := os.Open(i.File)
		if err != nil {
			return fmt.Errorf("open the archive: %w", err)
		}
		defer file.Close()
		archive = file
	}
	images, err := node.ImportImages(ctx, i.Data, archive)
	if err != nil {
		return fmt.Errorf("import %s: %w", i.File, err)
	}
	for _, img := range images {
		c.say("%s\t%s", img.Ref, img.Digest)
	}
	return nil
}

type imageList struct{ dataFlag }

// Run lists the images of the node of the data directory.
func (i *imageList) Run(ctx context.Context, c *console) error {
	images, err := node.Images(ctx, i.Data)
	if err != nil {
		return err
	}
	for _, img := range images {
		c.say("%s\t%s\t%d", img.Ref, img.Digest, img.Size)
	}
	return nil
}
