package service

// Keep asks whether the connection of a Single daemon may stay open for
// another request, which it may unless we leave or somebody else could need
// its place. Until Resume the daemon may close it at any time.
func (c *Conn) Keep() bool {
	v := c.state.server
	if v == nil {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.leave != "" || v.active >= v.limit() || v.maxUse > 0 && v.used >= v.maxUse {
		return false
	}
	c.state.kept = true
	return true
}

// Resume is called when another request has come on a kept connection. If it
// reports false the connection was given up meanwhile, or must be, because a
// table has changed: the request is not to be looked at, and whoever sent it
// tries again on a new connection.
func (c *Conn) Resume() bool {
	v := c.state.server
	if v.s.TableChanged != nil && v.tableChanged() {
		v.quit("table has changed")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !c.state.kept || v.leave != "" {
		return false
	}
	c.state.kept = false
	v.used++
	v.tidied = false
	return true
}

// dropKept closes the connections that wait for another request. v.mu is held.
func (v *server) dropKept() {
	for c := range v.conns {
		if c.state.kept {
			c.state.kept = false
			_ = c.Conn.Close()
		}
	}
}
