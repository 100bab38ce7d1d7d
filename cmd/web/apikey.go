package main

import (
	"context"
	"errors"
)

func apikey(ctx context.Context, t terminal, args []string) error { return errors.New("soon") }
