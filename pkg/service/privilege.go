package service

import (
	"os"
	"syscall"

	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
)

// dropPrivileges takes the steps of spec §7 in their order: groups, chroot,
// user. A daemon that master.cf leaves privileged keeps root as its real user
// only and works as mail_owner; the others never stay root, whatever master.cf
// says, unless they are marked KeepRoot.
func (p *process) dropPrivileges(queueDir string) {
	if os.Getuid() != 0 {
		return // rootless: we are who we are
	}
	drop := p.o.unprivileged
	if !drop && !p.s.Privileged && !p.s.KeepRoot && !p.o.standAlone {
		p.log.Warn("service %s: running as %s, not as root as master.cf says", p.o.name, p.rt.Owner.Name)
		drop = true
	}
	id := p.rt.Owner
	if drop {
		id = p.setGroups(id)
	}
	if p.o.chroot {
		if err := syscall.Chroot(queueDir); err != nil {
			p.log.Fatal("chroot(%s): %v", queueDir, maillog.Errno(err))
		}
		if err := os.Chdir("/"); err != nil {
			p.log.Fatal("chdir(/): %v", maillog.Errno(cause(err)))
		}
	}
	switch {
	case drop:
		if err := syscall.Setuid(id.UID); err != nil {
			p.log.Fatal("setuid(%d): %v", id.UID, maillog.Errno(err))
		}
	case p.s.Privileged:
		p.workAs(id)
	}
}

func (p *process) setGroups(id cred.Identity) cred.Identity {
	if err := syscall.Setgid(id.GID); err != nil {
		p.log.Fatal("setgid(%d): %v", id.GID, maillog.Errno(err))
	}
	full, err := cred.WithGroups(id)
	if err == nil {
		err = syscall.Setgroups(full.Groups)
	}
	if err != nil {
		p.log.Fatal("initgroups: %v", maillog.Errno(err))
	}
	return full
}

// workAs gives every thread id's effective ids; the real and saved ones stay
// root, for cred.As.
func (p *process) workAs(id cred.Identity) {
	if err := syscall.Setgroups([]int{id.GID}); err != nil {
		p.log.Fatal("set_eugid: setgroups(%d): %v", id.GID, maillog.Errno(err))
	}
	if err := syscall.Setresgid(-1, id.GID, -1); err != nil {
		p.log.Fatal("set_eugid: setegid(%d): %v", id.GID, maillog.Errno(err))
	}
	if err := syscall.Setresuid(-1, id.UID, -1); err != nil {
		p.log.Fatal("set_eugid: seteuid(%d): %v", id.UID, maillog.Errno(err))
	}
}
