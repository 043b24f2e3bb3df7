package iam

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"time"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// certificate is a stored server certificate; its id is its name in lower case. Its
// private key is sealed, and told to nobody but the nodes that serve by it.
type certificate struct {
	Name       string            `json:"name"`
	Path       string            `json:"path"`
	ID         string            `json:"id"`
	Body       string            `json:"body"` // PEM
	Chain      string            `json:"chain,omitempty"`
	Sealed     []byte            `json:"sealed"` // the key in PEM
	UploadedAt time.Time         `json:"uploadedAt"`
	Expires    time.Time         `json:"expires"`
	Tags       map[string]string `json:"tags,omitempty"`
}

// maxCertificates is AWS's limit of an account.
const maxCertificates = 20

const kindCertificate = "server-certificate"

func (c *certificate) arn(account string) string {
	return arnOf(account, kindCertificate, c.Path, c.Name)
}

func certificateContext(id string) string { return "iam/certificate/" + id }

// certificate returns a server certificate, or NoSuchEntity.
func (t tables) certificate(r store.Reader, sc store.Scope, name *string) (*certificate, error) {
	if n := deref(name); n != "" {
		if c, ok := t.certificates.Get(r, sc, key(n)); ok && c.Name == n {
			return c, nil
		}
	}
	return nil, errNone("The Server Certificate with name %s cannot be found.", deref(name))
}

func (c *certificate) metadata(account string) *types.ServerCertificateMetadata {
	arn := c.arn(account)
	return &types.ServerCertificateMetadata{
		Arn: &arn, Path: &c.Path, ServerCertificateName: &c.Name, ServerCertificateId: &c.ID, UploadDate: &c.UploadedAt, Expiration: &c.Expires,
	}
}

// UploadServerCertificate takes in a certificate with its private key.
func (s *Service) UploadServerCertificate(ctx context.Context, in *api.UploadServerCertificateInput) (*api.UploadServerCertificateOutput, error) {
	leaf, err := checkPair(deref(in.CertificateBody), deref(in.CertificateChain), deref(in.PrivateKey))
	if err != nil {
		return nil, err
	}
	id, err := newID("ASCA")
	if err != nil {
		return nil, err
	}
	c := &certificate{
		Name: deref(in.ServerCertificateName), Path: or(in.Path, "/"), ID: id, Body: strings.TrimSpace(*in.CertificateBody) + "\n", Chain: deref(in.CertificateChain),
		UploadedAt: s.now(), Expires: leaf.NotAfter.UTC(),
	}
	if c.Sealed, err = s.deps.Sealer.Seal(certificateContext(id), []byte(*in.PrivateKey)); err != nil {
		return nil, err
	}
	if len(in.Tags) > 0 {
		if c.Tags, err = setTags(nil, in.Tags); err != nil {
			return nil, err
		}
	}
	err = s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		if _, taken := s.certificates.Get(tx, sc, key(c.Name)); taken {
			return errExists("The Server Certificate with name %s already exists.", c.Name)
		}
		if atLeast(s.certificates.List(tx, sc), maxCertificates) {
			return errLimit("Cannot exceed quota for ServerCertificatesPerAccount: %d", maxCertificates)
		}
		s.certificates.Put(tx, sc, key(c.Name), c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.UploadServerCertificateOutput{ServerCertificateMetadata: c.metadata(scopeOf(ctx).Account), Tags: someTags(c.Tags)}, nil
}

// checkPair refuses what is no certificate, or no key of it. Nothing of the key is told.
func checkPair(body, chain, key string) (*x509.Certificate, error) {
	malformed := func(m string) error { return &types.MalformedCertificateException{Message: &m} }
	block, rest := pem.Decode([]byte(body))
	if block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
		return nil, malformed("Unable to parse certificate. Please ensure the certificate is in PEM format, and alone in its member.")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, malformed("Unable to parse certificate. Please ensure the certificate is in PEM format.")
	}
	for rest := []byte(chain); strings.TrimSpace(string(rest)) != ""; {
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, malformed("Unable to parse certificate chain. Please ensure the chain is in PEM format.")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, malformed("Unable to parse certificate chain. Please ensure the chain is in PEM format.")
		}
	}
	if block, _ := pem.Decode([]byte(key)); block == nil || !strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return nil, malformed("Unable to parse key; it must be a private key in PEM format, without a passphrase.")
	}
	if _, err := tls.X509KeyPair([]byte(body), []byte(key)); err != nil {
		m := "The private key does not fit the certificate, or is not of a supported type."
		return nil, &types.KeyPairMismatchException{Message: &m}
	}
	return leaf, nil
}

// GetServerCertificate describes a certificate. Its private key is never told.
func (s *Service) GetServerCertificate(ctx context.Context, in *api.GetServerCertificateInput) (*api.GetServerCertificateOutput, error) {
	sc := scopeOf(ctx)
	c, err := s.certificate(s.snapshot(), sc, in.ServerCertificateName)
	if err != nil {
		return nil, err
	}
	shape := &types.ServerCertificate{CertificateBody: &c.Body, ServerCertificateMetadata: c.metadata(sc.Account), Tags: someTags(c.Tags)}
	if c.Chain != "" {
		shape.CertificateChain = &c.Chain
	}
	return &api.GetServerCertificateOutput{ServerCertificate: shape}, nil
}

// ListServerCertificates lists the certificates, by name.
func (s *Service) ListServerCertificates(ctx context.Context, in *api.ListServerCertificatesInput) (*api.ListServerCertificatesOutput, error) {
	sc := scopeOf(ctx)
	p, err := page(below(s.certificates.List(s.snapshot(), sc), func(c *certificate) string { return c.Path }, in.PathPrefix), in.Marker, in.MaxItems)
	shapes := each(p.Items, func(c *certificate) types.ServerCertificateMetadata { return *c.metadata(sc.Account) })
	return &api.ListServerCertificatesOutput{ServerCertificateMetadataList: shapes, Marker: p.Marker, IsTruncated: p.Truncated}, err
}

// DeleteServerCertificate deletes a certificate that nothing uses.
func (s *Service) DeleteServerCertificate(ctx context.Context, in *api.DeleteServerCertificateInput) (*api.DeleteServerCertificateOutput, error) {
	return nil, s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		c, err := s.certificate(tx, sc, in.ServerCertificateName)
		if err != nil {
			return err
		}
		if s.deps.CertificateUser != nil {
			if user := s.deps.CertificateUser(c.arn(sc.Account)); user != "" {
				return errInUse("Certificate: " + c.ID + " is currently in use by " + user + ". Please remove it first before deleting it from IAM.")
			}
		}
		s.certificates.Delete(tx, sc, key(c.Name))
		return nil
	})
}

func (s *Service) editCertificate(ctx context.Context, name *string, fn func(c *certificate) error) error {
	return s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		c, err := s.certificate(tx, sc, name)
		if err != nil {
			return err
		}
		c = s.certificates.Clone(c)
		if err := fn(c); err != nil {
			return err
		}
		s.certificates.Put(tx, sc, key(c.Name), c)
		return nil
	})
}

// TagServerCertificate sets tags.
func (s *Service) TagServerCertificate(ctx context.Context, in *api.TagServerCertificateInput) (*api.TagServerCertificateOutput, error) {
	return nil, s.editCertificate(ctx, in.ServerCertificateName, func(c *certificate) (err error) {
		c.Tags, err = setTags(c.Tags, in.Tags)
		return err
	})
}

// UntagServerCertificate removes tags.
func (s *Service) UntagServerCertificate(ctx context.Context, in *api.UntagServerCertificateInput) (*api.UntagServerCertificateOutput, error) {
	return nil, s.editCertificate(ctx, in.ServerCertificateName, func(c *certificate) error {
		for _, k := range in.TagKeys {
			dropTag(c.Tags, k)
		}
		return nil
	})
}

// ListServerCertificateTags lists a certificate's tags.
func (s *Service) ListServerCertificateTags(ctx context.Context, in *api.ListServerCertificateTagsInput) (*api.ListServerCertificateTagsOutput, error) {
	c, err := s.certificate(s.snapshot(), scopeOf(ctx), in.ServerCertificateName)
	if err != nil {
		return nil, err
	}
	tags, err := pageTags(c.Tags, in.Marker, in.MaxItems)
	return &api.ListServerCertificateTagsOutput{Tags: tags.Items, Marker: tags.Marker, IsTruncated: tags.Truncated}, err
}

// onCertificate is a server certificate as a resource.
func (s *Service) onCertificate() noun {
	return noun{kind: kindCertificate, name: "ServerCertificateName", find: func(ctx context.Context, name string) (known, bool) {
		sc := scopeOf(ctx)
		c, err := s.certificate(s.snapshot(), sc, &name)
		if err != nil {
			return known{}, false
		}
		return known{arn: c.arn(sc.Account), tags: c.Tags}, true
	}}
}

func (s *Service) registerCertificates(w *wire.Service) {
	c := s.onCertificate()
	handle(w, wire.Operation[api.UploadServerCertificateInput]{Name: "UploadServerCertificate"}, s.UploadServerCertificate, c)
	handle(w, wire.Operation[api.GetServerCertificateInput]{Name: "GetServerCertificate", ReadOnly: true}, s.GetServerCertificate, c)
	wire.Handle(w, wire.Operation[api.ListServerCertificatesInput]{Name: "ListServerCertificates", ReadOnly: true}, s.ListServerCertificates)
	handle(w, wire.Operation[api.DeleteServerCertificateInput]{Name: "DeleteServerCertificate"}, s.DeleteServerCertificate, c)
	handle(w, wire.Operation[api.TagServerCertificateInput]{Name: "TagServerCertificate"}, s.TagServerCertificate, c)
	handle(w, wire.Operation[api.UntagServerCertificateInput]{Name: "UntagServerCertificate"}, s.UntagServerCertificate, c)
	handle(w, wire.Operation[api.ListServerCertificateTagsInput]{Name: "ListServerCertificateTags", ReadOnly: true}, s.ListServerCertificateTags, c)
}

// ErrNoCertificate is returned for a certificate that is not there.
var ErrNoCertificate = errors.New("there is no such server certificate")

// ServerCertificate returns a certificate, with its chain, and its private key, in PEM.
func (s *Service) ServerCertificate(arn string) (chain, privateKey string, err error) {
	f := strings.SplitN(arn, ":", 6)
	if len(f) != 6 || f[2] != "iam" || !strings.HasPrefix(f[5], kindCertificate+"/") {
		return "", "", ErrNoCertificate
	}
	c, ok := s.certificates.Get(s.snapshot(), accountScope(f[4]), key(f[5][strings.LastIndexByte(f[5], '/')+1:]))
	if !ok || c.arn(f[4]) != arn {
		return "", "", ErrNoCertificate
	}
	plain, err := s.deps.Sealer.Open(certificateContext(c.ID), c.Sealed)
	if err != nil {
		return "", "", err
	}
	return c.Body + c.Chain, string(plain), nil
}
