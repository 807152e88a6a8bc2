// spiffe-bundle reads and writes SPIFFE bundles as go-spiffe does, for a test to compare with.
//
//	spiffe-bundle read TRUST-DOMAIN < bundle.json   what go-spiffe finds in it
//	spiffe-bundle write TRUST-DOMAIN                a bundle of its own, and what is in it
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"net/url"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

type found struct {
	Sequence    string   `json:"sequence,omitempty"`
	RefreshHint float64  `json:"refreshHintSeconds"`
	Authorities [][]byte `json:"authorities"`
	Document    string   `json:"document,omitempty"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: spiffe-bundle read|write TRUST-DOMAIN")
	}
	trustDomain, err := spiffeid.TrustDomainFromString(args[1])
	if err != nil {
		return err
	}
	if args[0] == "read" {
		bundle, err := spiffebundle.Read(trustDomain, os.Stdin)
		if err != nil {
			return err
		}
		return show(bundle, "")
	}
	bundle, err := made(trustDomain)
	if err != nil {
		return err
	}
	document, err := bundle.Marshal()
	if err != nil {
		return err
	}
	return show(bundle, string(document))
}

func show(bundle *spiffebundle.Bundle, document string) error {
	out := found{Document: document, Authorities: [][]byte{}}
	if sequence, ok := bundle.SequenceNumber(); ok {
		out.Sequence = fmt.Sprint(sequence)
	}
	if hint, ok := bundle.RefreshHint(); ok {
		out.RefreshHint = hint.Seconds()
	}
	for _, authority := range bundle.X509Authorities() {
		out.Authorities = append(out.Authorities, authority.Raw)
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// made has an authority of every kind of key, and one for JWT-SVIDs.
func made(trustDomain spiffeid.TrustDomain) (*spiffebundle.Bundle, error) {
	bundle := spiffebundle.New(trustDomain)
	bundle.SetSequenceNumber(math.MaxUint64)
	bundle.SetRefreshHint(5 * time.Minute)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	for _, key := range []crypto.Signer{rsaKey, p256, p384, edwards} {
		authority, err := authorityOf(key, trustDomain)
		if err != nil {
			return nil, err
		}
		bundle.AddX509Authority(authority)
	}
	return bundle, bundle.AddJWTAuthority("jwt", p256.Public())
}

func authorityOf(key crypto.Signer, trustDomain spiffeid.TrustDomain) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, big.NewInt(math.MaxInt64))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"other"}},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		URIs:                  []*url.URL{trustDomain.ID().URL()},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(raw)
}
