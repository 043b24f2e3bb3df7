package elbv2

import (
	"context"
	"slices"
	"strings"

	api "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"longshore.dev/longshore/internal/edge/balance"
	"longshore.dev/longshore/internal/store"
)

// tlsPolicy is the only one: TLS 1.2 and 1.3, with the ciphers that Go takes for safe.
const tlsPolicy = "ELBSecurityPolicy-TLS13-1-2-2021-06"

// maxListenerCertificates is AWS's limit, the default one included.
const maxListenerCertificates = 26

func overTLS(p types.ProtocolEnum) bool {
	return p == types.ProtocolEnumHttps || p == types.ProtocolEnumTls
}

// wantedCertificates checks the certificates of a listener as a call gives them.
func (s *Service) wantedCertificates(sc store.Scope, p types.ProtocolEnum, policy *string, in []types.Certificate) ([]string, error) {
	switch {
	case !overTLS(p) && (len(in) > 0 || deref(policy) != ""):
		return nil, fail("ValidationError", "Certificates and SSL policies cannot be specified for the protocol %s", p)
	case !overTLS(p):
		return nil, nil
	case len(in) != 1:
		return nil, fail("ValidationError", "Exactly one certificate must be specified for a listener of the protocol %s", p)
	case deref(policy) != "" && *policy != tlsPolicy:
		return nil, fail("SSLPolicyNotFound", "The SSL policy is not there: the only one is %s", tlsPolicy)
	}
	arn := deref(in[0].CertificateArn)
	return []string{arn}, s.checkCertificate(sc, arn)
}

func (s *Service) checkCertificate(sc store.Scope, arn string) error {
	f := strings.SplitN(arn, ":", 6)
	if len(f) != 6 || f[4] != sc.Account || s.deps.Certificates == nil {
		return fail("CertificateNotFound", "Certificate '%.300s' not found", arn)
	}
	if _, _, err := s.deps.Certificates.ServerCertificate(arn); err != nil {
		return fail("CertificateNotFound", "Certificate '%.300s' not found: `aws iam upload-server-certificate` takes one in", arn)
	}
	return nil
}

// CertificateUser is the load balancer that presents a certificate, empty if none does.
func (s *Service) CertificateUser(arn string) string {
	for ref, l := range s.listeners.ListAll(s.db.Snapshot()) {
		if slices.Contains(l.Certificates, arn) {
			return arnOf(ref.Scope, kindBalancer, l.Balancer)
		}
	}
	return ""
}

// certificateTable is what a listener presents. A certificate that can't be opened is left
// out: the listener serves by the others.
func (s *Service) certificateTable(l *listener) (out []balance.Certificate) {
	if s.deps.Certificates == nil {
		return nil
	}
	for _, arn := range l.Certificates {
		chain, key, err := s.deps.Certificates.ServerCertificate(arn)
		if err != nil {
			s.log.Error("a listener's certificate can't be opened; it is not presented", "certificate", arn, "error", err)
			continue
		}
		out = append(out, balance.Certificate{ChainPEM: chain, KeyPEM: key})
	}
	return out
}

func (l *listener) certificateView() (out []types.Certificate) {
	for i, arn := range l.Certificates {
		out = append(out, types.Certificate{CertificateArn: &arn, IsDefault: pointer(i == 0)})
	}
	return out
}

// AddListenerCertificates adds certificates that are presented to whom they fit.
func (s *Service) AddListenerCertificates(ctx context.Context, in *api.AddListenerCertificatesInput) (*api.AddListenerCertificatesOutput, error) {
	sc := scopeOf(ctx)
	l, err := s.changeListener(ctx, deref(in.ListenerArn), func(l *listener) error {
		if !overTLS(l.Protocol) {
			return fail("UnsupportedProtocol", "A listener of the protocol %s has no certificates", l.Protocol)
		}
		for _, c := range in.Certificates {
			arn := deref(c.CertificateArn)
			if err := s.checkCertificate(sc, arn); err != nil {
				return err
			}
			if !slices.Contains(l.Certificates, arn) {
				l.Certificates = append(slices.Clip(l.Certificates), arn)
			}
		}
		if len(l.Certificates) > maxListenerCertificates {
			return fail("TooManyCertificates", "The maximum number of certificates has been reached on the listener: %d", maxListenerCertificates)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.AddListenerCertificatesOutput{Certificates: l.certificateView()}, nil
}

// RemoveListenerCertificates removes certificates, but for the default one.
func (s *Service) RemoveListenerCertificates(ctx context.Context, in *api.RemoveListenerCertificatesInput) (*api.RemoveListenerCertificatesOutput, error) {
	_, err := s.changeListener(ctx, deref(in.ListenerArn), func(l *listener) error {
		for _, c := range in.Certificates {
			if i := slices.Index(l.Certificates, deref(c.CertificateArn)); i == 0 {
				return fail("OperationNotPermitted", "The default certificate cannot be removed: modify the listener to have another one")
			} else if i > 0 {
				l.Certificates = slices.Delete(slices.Clone(l.Certificates), i, i+1)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.RemoveListenerCertificatesOutput{}, nil
}

// DescribeListenerCertificates lists a listener's certificates.
func (s *Service) DescribeListenerCertificates(ctx context.Context, in *api.DescribeListenerCertificatesInput) (*api.DescribeListenerCertificatesOutput, error) {
	l, err := s.listener(s.db.Snapshot(), scopeOf(ctx), deref(in.ListenerArn))
	if err != nil {
		return nil, err
	}
	return &api.DescribeListenerCertificatesOutput{Certificates: l.certificateView()}, nil
}

// DescribeSSLPolicies describes the one that there is.
func (s *Service) DescribeSSLPolicies(_ context.Context, in *api.DescribeSSLPoliciesInput) (*api.DescribeSSLPoliciesOutput, error) {
	for _, name := range in.Names {
		if name != tlsPolicy {
			return nil, fail("SSLPolicyNotFound", "The SSL policy is not there: the only one is %s", tlsPolicy)
		}
	}
	return &api.DescribeSSLPoliciesOutput{SslPolicies: []types.SslPolicy{{
		Name: pointer(tlsPolicy), SslProtocols: []string{"TLSv1.3", "TLSv1.2"}, SupportedLoadBalancerTypes: []string{"application", "network"},
	}}}, nil
}
