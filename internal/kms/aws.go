package kms

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// awsKey is a key of AWS KMS. The SDK finds credentials where it always does: variables, files, the role of a pod, a task or a machine.
type awsKey struct{ arn, region string }

func openAWS(name string) (Key, error) {
	a, err := arn.Parse(name)
	if err != nil || a.Service != "kms" || a.Region == "" {
		return nil, ErrURI
	}
	return awsKey{name, a.Region}, nil
}

func (k awsKey) client(ctx context.Context) (*kms.Client, error) {
	c, err := config.LoadDefaultConfig(ctx, config.WithRegion(k.region))
	if err != nil {
		return nil, fmt.Errorf("settings of AWS: %w", err)
	}
	return kms.NewFromConfig(c), nil
}

func (k awsKey) encrypt(ctx context.Context, plain []byte) (string, error) {
	c, err := k.client(ctx)
	if err != nil {
		return "", err
	}
	out, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: &k.arn, Plaintext: plain})
	if err != nil {
		return "", fmt.Errorf("AWS KMS: %w", err)
	}
	return base64.StdEncoding.EncodeToString(out.CiphertextBlob), nil
}

func (k awsKey) decrypt(ctx context.Context, wrapped string) ([]byte, error) {
	blob, err := base64.StdEncoding.DecodeString(wrapped)
	if err != nil {
		return nil, errors.New("it is not base64, as `patchbay keys … -wrap` prints it")
	}
	c, err := k.client(ctx)
	if err != nil {
		return nil, err
	}
	out, err := c.Decrypt(ctx, &kms.DecryptInput{KeyId: &k.arn, CiphertextBlob: blob})
	if err != nil {
		return nil, fmt.Errorf("AWS KMS: %w", err)
	}
	return out.Plaintext, nil
}
