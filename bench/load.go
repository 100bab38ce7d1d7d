package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const callers = 16

// client is the load generator's: one kept connection for each caller.
func client() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConns: 64, MaxIdleConnsPerHost: 64}, Timeout: 30 * time.Second}
}

// load has 16 callers make requests one after the other for a time, and returns how many were answered a second. request
// makes the nth; an answer other than 200 or 201 ends it.
func load(ctx context.Context, c *http.Client, each time.Duration, request func(n int64) (*http.Request, error)) (float64, error) {
	return repeat(ctx, each, func(n int64) error {
		r, err := request(n)
		if err == nil {
			err = once(c, r)
		}
		return err
	})
}

// repeat has 16 callers do one thing after the other for a time, and returns how many were done a second. do does the
// nth; an error ends it.
func repeat(ctx context.Context, each time.Duration, do func(n int64) error) (float64, error) {
	return repeatBy(ctx, callers, each, do)
}

// repeatBy is repeat with another number of callers.
func repeatBy(ctx context.Context, callers int, each time.Duration, do func(n int64) error) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, each)
	defer cancel()
	var next, done atomic.Int64
	var all sync.WaitGroup
	fault := make(chan error, callers)
	began := time.Now()
	for range callers {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := do(next.Add(1)); err != nil {
					fault <- err
					cancel()
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	select {
	case err := <-fault:
		return 0, err
	default:
		return float64(done.Load()) / took.Seconds(), nil
	}
}

func once(c *http.Client, r *http.Request) error {
	response, err := c.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK && response.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%s %s: %d %s", r.Method, r.URL.Path, response.StatusCode, body)
	}
	return err
}

// turns measures floor and ours by turns and returns the medians.
func (b *bench) turns(ctx context.Context, floor, ours func(each time.Duration) (float64, error)) (float64, float64, error) {
	n, each := b.rounds()
	var floors, own []float64
	for range n {
		f, err := floor(each)
		if err != nil {
			return 0, 0, fmt.Errorf("floor: %w", err)
		}
		o, err := ours(each)
		if err != nil {
			return 0, 0, err
		}
		floors, own = append(floors, f), append(own, o)
		if ctx.Err() != nil {
			return 0, 0, ctx.Err()
		}
	}
	return median(floors), median(own), nil
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}
