package iam

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
)

// pair is a certificate of its own and its key, in PEM.
func pair(t testing.TB, name string) (body, private string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

// A certificate is uploaded, described without its key, tagged, and deleted; who serves by
// it gets the key.
func TestServerCertificates(t *testing.T) {
	s := serve(t, Limits{})
	body, private := pair(t, "shop.example")
	made := ok(s, s.Client.UploadServerCertificate, &api.UploadServerCertificateInput{
		ServerCertificateName: str("shop"), Path: str("/web/"), CertificateBody: &body, PrivateKey: &private, Tags: []types.Tag{{Key: str("k"), Value: str("v")}},
	}).ServerCertificateMetadata
	if *made.Arn != "arn:aws:iam::123456789012:server-certificate/web/shop" || !strings.HasPrefix(*made.ServerCertificateId, "ASCA") || time.Until(*made.Expiration) > time.Hour {
		t.Errorf("made %+v", made)
	}
	got := ok(s, s.Client.GetServerCertificate, &api.GetServerCertificateInput{ServerCertificateName: str("shop")}).ServerCertificate
	if *got.CertificateBody != body || len(got.Tags) != 1 || strings.Contains(fmt.Sprintf("%+v", got), "PRIVATE") {
		t.Errorf("described as %+v", got)
	}
	if list := ok(s, s.Client.ListServerCertificates, &api.ListServerCertificatesInput{PathPrefix: str("/web/")}).ServerCertificateMetadataList; len(list) != 1 {
		t.Errorf("listed are %v", list)
	}
	chain, key, err := s.ServerCertificate(*made.Arn)
	if err != nil || chain != body || key != private {
		t.Errorf("who serves by it gets %q %v", chain, err)
	}
	for _, arn := range []string{*made.Arn + "x", strings.Replace(*made.Arn, "web/", "", 1), "", strings.Replace(*made.Arn, "123456789012", "210987654321", 1)} {
		if _, _, err := s.ServerCertificate(arn); err == nil {
			t.Errorf("there is a certificate %q", arn)
		}
	}
	_, other := pair(t, "shop.example")
	for code, in := range map[string]*api.UploadServerCertificateInput{
		"EntityAlreadyExists":  {ServerCertificateName: str("SHOP"), CertificateBody: &body, PrivateKey: &private},
		"KeyPairMismatch":      {ServerCertificateName: str("x"), CertificateBody: &body, PrivateKey: &other},
		"MalformedCertificate": {ServerCertificateName: str("x"), CertificateBody: &private, PrivateKey: &private},
	} {
		_, err := s.Client.UploadServerCertificate(t.Context(), in)
		if err == nil || !strings.Contains(err.Error(), code) || strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("%v, want %s", err, code)
		}
	}
	ok(s, s.Client.DeleteServerCertificate, &api.DeleteServerCertificateInput{ServerCertificateName: str("shop")})
	if _, _, err := s.ServerCertificate(*made.Arn); err == nil {
		t.Error("it is still there")
	}
}
