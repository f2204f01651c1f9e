// Package dirsync lets concurrent writers of new files share the fsyncs of a
// directory.
package dirsync

import "sync"

// Group is the directories of one process. Its zero value is ready.
type Group struct {
	mu   sync.Mutex
	dirs map[string]*state
}

// state is a directory that somebody waits for.
type state struct {
	running sync.Mutex // held during a sync
	next    *round     // not started yet; nil: nobody waits for it
	users   int
}

// round is one sync and its outcome.
type round struct {
	done chan struct{}
	err  error
}

// Do returns after a sync of the directory that began after the call, with its
// error: sync itself, or that of another caller. Whoever comes while one is
// running waits for the next, together with everyone else who has come by then.
func (g *Group) Do(dir string, sync func() error) error {
	g.mu.Lock()
	if g.dirs == nil {
		g.dirs = map[string]*state{}
	}
	s := g.dirs[dir]
	if s == nil {
		s = &state{}
		g.dirs[dir] = s
	}
	s.users++
	mine := s.next
	leader := mine == nil
	if leader {
		mine = &round{done: make(chan struct{})}
		s.next = mine
	}
	g.mu.Unlock()

	if leader {
		s.running.Lock()
		g.mu.Lock()
		s.next = nil
		g.mu.Unlock()
		mine.err = sync()
		s.running.Unlock()
		close(mine.done)
	}
	<-mine.done

	g.mu.Lock()
	if s.users--; s.users == 0 {
		delete(g.dirs, dir)
	}
	g.mu.Unlock()
	return mine.err
}
