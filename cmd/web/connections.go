package main

import (
	order "container/list"
	"net"
	"net/http"
	"sync"
	"syscall"
)

// mostConnections is how many connections a process holds open at most, each with 50 kB: twice as many as may wait at two providers, and far
// more than a proxy keeps.
const mostConnections = 4096

// connectionLimit returns mostConnections, or half of the file descriptors if those are fewer: what is served opens others.
func connectionLimit() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil && files.Cur/2 < mostConnections {
		return int(files.Cur / 2)
	}
	return mostConnections
}

// bounded is a listener with a bound on open connections. At the bound, the connection that has been idle longest, or has sent no request for
// longest, is closed for a new one. While each has a request under way, new ones wait.
type bounded struct {
	net.Listener
	free chan struct{} // one for each connection that is open

	mu      sync.Mutex
	idle    order.List // of *connection, the longest idle first
	waiting bool       // one that was accepted waits for another to end
}

// connection is one of a bounded listener.
type connection struct {
	net.Conn
	of   *bounded
	once sync.Once
	at   *order.Element // in idle; nil while a request is under way
}

// newBounded bounds the connections of a listener. state must be the server's ConnState.
func newBounded(l net.Listener, most int) *bounded {
	return &bounded{Listener: l, free: make(chan struct{}, most)}
}

// Accept returns the next connection once there is room for it.
func (b *bounded) Accept() (net.Conn, error) {
	c, err := b.Listener.Accept()
	if err != nil {
		return nil, err
	}
	select {
	case b.free <- struct{}{}:
	default:
		b.mu.Lock()
		oldest := b.take()
		b.waiting = oldest == nil
		b.mu.Unlock()
		if oldest != nil {
			oldest.Close()
		}
		b.free <- struct{}{}
		b.mu.Lock()
		b.waiting = false
		b.mu.Unlock()
	}
	return &connection{Conn: c, of: b}, nil
}

// take removes the longest idle connection from the list; nil if there is none. The caller holds mu.
func (b *bounded) take() *connection {
	first := b.idle.Front()
	if first == nil {
		return nil
	}
	c := b.idle.Remove(first).(*connection)
	c.at = nil
	return c
}

// state follows what the server does with a connection.
func (b *bounded) state(conn net.Conn, s http.ConnState) {
	c, ok := conn.(*connection)
	if !ok {
		return
	}
	b.mu.Lock()
	if c.at != nil {
		b.idle.Remove(c.at)
		c.at = nil
	}
	if s == http.StateNew || s == http.StateIdle {
		c.at = b.idle.PushBack(c)
	}
	var oldest *connection
	if b.waiting {
		if oldest = b.take(); oldest != nil {
			b.waiting = false
		}
	}
	b.mu.Unlock()
	if oldest != nil {
		oldest.Close()
	}
}

// Close closes the connection and makes room for another.
func (c *connection) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.of.mu.Lock()
		if c.at != nil {
			c.of.idle.Remove(c.at)
			c.at = nil
		}
		c.of.mu.Unlock()
		<-c.of.free
	})
	return err
}
