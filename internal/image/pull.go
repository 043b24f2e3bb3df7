package image

import (
	"context"
	"errors"
	"fmt"
)

// Pull implements Store. An imported image answers for its reference until it is
// removed, and what is pinned by digest and present is not asked for again unless
// the policy is PullAlways.
func (s *Local) Pull(ctx context.Context, ref string, opts PullOptions) (Image, error) {
	ctx, done := s.context(ctx)
	defer done()
	name, err := normalize(ref)
	if err != nil {
		return Image{}, err
	}
	if opts.Policy == "" {
		opts.Policy = s.opts.PullPolicy
	}
	if err := opts.Policy.Validate(); err != nil {
		return Image{}, fmt.Errorf("pull %s: %w", ref, err)
	}
	defer s.uses.begin(name, s.opts.Now)()
	have, imported, err := s.lookUp(ctx, name, ref)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Image{}, err
	}
	isHere := err == nil
	if isHere && (imported || opts.Policy == PullPreferCached || opts.Policy == PullOnce || opts.Policy == PullDefault && pinnedDigest(name) != "") {
		return have, nil
	}

	img, err := s.pulls.do(ctx, s.base, flightKey{name, opts.Credentials}, opts.OnProgress,
		func(ctx context.Context, p *progress) (Image, error) { return s.pull(ctx, name, opts.Credentials, p) })
	if err == nil {
		img = img.clone()
		img.Ref = ref
		return img, nil
	}
	if ctx.Err() != nil {
		return Image{}, context.Cause(ctx)
	}
	if isHere && opts.Policy == PullDefault {
		s.opts.Log.Warn("image could not be pulled; the one that is here is used", "image", ref, "error", err)
		return have, nil
	}
	return Image{}, err
}

// lookUp returns what name means here, and whether that was imported.
func (s *Local) lookUp(ctx context.Context, name, ref string) (Image, bool, error) {
	rec, err := s.find(ctx, name)
	if err != nil {
		return Image{}, false, err
	}
	img, err := s.image(ctx, ref, rec)
	return img, rec.Labels[labelImported] != "", err
}

// pull asks the registry, and fetches and unpacks what is not here.
func (s *Local) pull(ctx context.Context, name string, creds Credentials, p *progress) (Image, error) {
	reg := s.registry(name, creds, p)
	target, err := reg.resolve(ctx)
	if err != nil {
		return Image{}, err
	}
	if rec, err := s.find(ctx, name); err == nil && rec.Target.Digest == target.Digest {
		img, err := s.image(ctx, name, rec)
		if err == nil || !errors.Is(err, ErrNotFound) {
			return img, err
		}
		s.cache.reset()
	}
	lctx, release, err := s.lease(ctx, "pull "+name)
	if err != nil {
		return Image{}, err
	}
	_, err = s.install(lctx, name, target, reg, false, p)
	// What has arrived serves the next attempt, unless it proved useless.
	release(err != nil && (ctx.Err() != nil || errors.Is(err, ErrUnavailable)))
	if err != nil {
		return Image{}, err
	}
	img, _, err := s.lookUp(ctx, name, name)
	if err == nil {
		s.opts.Log.Info("image pulled", "image", familiar(name), "digest", img.Digest)
	}
	return img, err
}
