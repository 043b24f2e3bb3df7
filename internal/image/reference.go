package image

import (
	"strings"

	"github.com/distribution/reference"
)

// maxReference bounds a reference's length: name 255, tag 128, digest 135.
const maxReference = 520

// normalize turns a reference as Docker users write it ("nginx") into the name
// under which the store keeps it ("docker.io/library/nginx:latest"). A tag beside
// a digest is dropped, as Docker does: the digest decides.
func normalize(ref string) (string, error) {
	if len(ref) > maxReference {
		return "", fail(ErrInvalid, "invalid reference format: longer than %d characters", maxReference)
	}
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", fail(ErrInvalid, "invalid reference format: %q: %w", ref, err)
	}
	return named.String(), nil
}

// familiar is the reverse of normalize, for showing.
func familiar(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(named)
}

// pinnedDigest returns the digest that a normalized name asks for, or "".
func pinnedDigest(name string) string {
	if _, digest, ok := strings.Cut(name, "@"); ok {
		return digest
	}
	return ""
}
