package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
)

const idleConnections = 10_000

// idleConnection measures what a stream takes that nothing comes through.
func idleConnection(ctx context.Context, b *bench) (result, error) {
	h, err := b.startHost(ctx, "Atlas", "Nova")
	if err != nil {
		return result{}, err
	}
	defer h.stop() //nolint:errcheck // its home is removed
	before, err := h.resident()
	if err != nil {
		return result{}, err
	}
	streams := make([]*client.Stream, 0, b.times(idleConnections))
	defer func() {
		for _, s := range streams {
			_ = s.Close() // the daemon ends with them
		}
	}()
	for range cap(streams) {
		s, err := h.as("Nova").Stream(ctx, api.StreamRequest{})
		if err != nil {
			return result{}, fmt.Errorf("connection %d: %w", len(streams)+1, err)
		}
		streams = append(streams, s)
	}
	if err := h.quiet(ctx); err != nil {
		return result{}, err
	}
	after, err := h.resident()
	return perOne(after-before, len(streams)), err
}

func perOne(bytes int64, n int) result {
	return result{duo: fmt.Sprintf("%d bytes", bytes/int64(n)), floor: "-", ratio: fmt.Sprintf("%d of them", n), ok: true}
}

const (
	idleAgents        = 5_000
	idleConversations = 20_000
)

func idleAgent(ctx context.Context, b *bench) (result, error) {
	n := b.times(idleAgents)
	without, err := b.idle(ctx, 2, 1)
	if err != nil {
		return result{}, err
	}
	with, err := b.idle(ctx, n, 1)
	return perOne(with-without, n), err
}

func idleConversation(ctx context.Context, b *bench) (result, error) {
	n := b.times(idleConversations)
	without, err := b.idle(ctx, 2, 1)
	if err != nil {
		return result{}, err
	}
	with, err := b.idle(ctx, 2, n)
	return perOne(with-without, n), err
}

// idle is the memory of a daemon that was started with a crowd a second time, and rests.
func (b *bench) idle(ctx context.Context, agents, conversations int) (bytes int64, err error) {
	home, err := b.home()
	if err != nil {
		return 0, err
	}
	if err := crowd(home, agents, conversations); err != nil {
		return 0, err
	}
	for range 2 {
		h, err := b.startIn(ctx, home)
		if err != nil {
			return 0, err
		}
		err = h.quiet(ctx)
		if err == nil {
			bytes, err = h.resident()
		}
		if err = errors.Join(err, h.stop()); err != nil {
			return 0, err
		}
	}
	return bytes, nil
}
