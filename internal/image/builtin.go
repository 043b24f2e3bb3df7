package image

import (
	"context"
	"errors"
	"fmt"

	"longshore.dev/longshore/internal/image/sample"
)

// EnsureSample imports the built-in sample image, longshore/sample:latest, unless
// that very image is here already. sample.ErrNotBuilt when the program was not
// embedded in this binary.
func (s *Local) EnsureSample(ctx context.Context) error {
	s.sample.Lock()
	defer s.sample.Unlock()
	program := s.opts.SampleProgram
	if program == nil {
		var err error
		if program, err = sample.Program(); err != nil {
			return err
		}
	}
	img, err := sample.Build(program)
	if err != nil {
		return err
	}
	have, err := s.Get(ctx, sample.Name)
	if err == nil && have.Digest == img.Digest {
		return nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	archive, err := img.Archive()
	if err != nil {
		return err
	}
	if _, err := s.Import(ctx, archive); err != nil {
		return fmt.Errorf("sample image: %w", err)
	}
	return nil
}
