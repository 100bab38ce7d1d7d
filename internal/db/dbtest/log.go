package dbtest

import (
	"bytes"
	"strings"
	"sync"
)

// Log keeps what is logged. It may be read while it is written.
type Log struct {
	mu      sync.Mutex
	written bytes.Buffer
}

// Write adds to the log.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.written.Write(p)
}

// String returns what has been logged so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.written.String()
}

// Count returns how often a text has been logged so far.
func (l *Log) Count(text string) int { return strings.Count(l.String(), text) }
