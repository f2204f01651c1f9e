// Command posthaste is all programs in one executable. It is the program whose
// name it was called by; called as posthaste it takes the name as its first
// argument.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"posthaste/pkg/command/fsstone"
	"posthaste/pkg/command/postalias"
	"posthaste/pkg/command/postcat"
	"posthaste/pkg/command/postconf"
	"posthaste/pkg/command/postdrop"
	"posthaste/pkg/command/postfix"
	"posthaste/pkg/command/postkick"
	"posthaste/pkg/command/postlock"
	"posthaste/pkg/command/postlog"
	"posthaste/pkg/command/postmap"
	"posthaste/pkg/command/postmulti"
	"posthaste/pkg/command/postqueue"
	"posthaste/pkg/command/postsuper"
	"posthaste/pkg/command/posttlsfinger"
	"posthaste/pkg/command/qmqpsink"
	"posthaste/pkg/command/qmqpsource"
	"posthaste/pkg/command/qshape"
	"posthaste/pkg/command/rmail"
	"posthaste/pkg/command/sendmail"
	"posthaste/pkg/command/smtpsink"
	"posthaste/pkg/command/smtpsource"
	"posthaste/pkg/daemon/anvil"
	"posthaste/pkg/daemon/bounce"
	"posthaste/pkg/daemon/cleanup"
	"posthaste/pkg/daemon/discard"
	"posthaste/pkg/daemon/dnsblog"
	"posthaste/pkg/daemon/erroragent"
	"posthaste/pkg/daemon/flush"
	"posthaste/pkg/daemon/local"
	"posthaste/pkg/daemon/master"
	"posthaste/pkg/daemon/pickup"
	"posthaste/pkg/daemon/pipe"
	"posthaste/pkg/daemon/postlogd"
	"posthaste/pkg/daemon/postscreen"
	"posthaste/pkg/daemon/proxymap"
	"posthaste/pkg/daemon/qmgr"
	"posthaste/pkg/daemon/qmqpd"
	"posthaste/pkg/daemon/rewrite"
	"posthaste/pkg/daemon/scache"
	"posthaste/pkg/daemon/showq"
	"posthaste/pkg/daemon/smtp"
	"posthaste/pkg/daemon/smtpd"
	"posthaste/pkg/daemon/spawn"
	"posthaste/pkg/daemon/tlsmgr"
	"posthaste/pkg/daemon/tlsproxy"
	"posthaste/pkg/daemon/verify"
	"posthaste/pkg/daemon/virtual"
)

// programs are the names this executable answers to.
var programs = map[string]func(args []string) int{
	"anvil":           anvil.Main,
	"bounce":          bounce.Main,
	"cleanup":         cleanup.Main,
	"discard":         discard.Main,
	"dnsblog":         dnsblog.Main,
	"error":           erroragent.Main,
	"flush":           flush.Main,
	"fsstone":         fsstone.Main,
	"lmtp":            smtp.Main,
	"local":           local.Main,
	"mailq":           sendmail.Main,
	"master":          master.Main,
	"newaliases":      sendmail.Main,
	"nqmgr":           qmgr.Main,
	"oqmgr":           qmgr.Main,
	"pickup":          pickup.Main,
	"pipe":            pipe.Main,
	"postalias":       postalias.Main,
	"postcat":         postcat.Main,
	"postconf":        postconf.Main,
	"postdrop":        postdrop.Main,
	"postfix":         postfix.Main,
	"postkick":        postkick.Main,
	"postlock":        postlock.Main,
	"postlog":         postlog.Main,
	"postlogd":        postlogd.Main,
	"postscreen":      postscreen.Main,
	"postmap":         postmap.Main,
	"postmulti":       postmulti.Main,
	"postqueue":       postqueue.Main,
	"postsuper":       postsuper.Main,
	"posttls-finger":  posttlsfinger.Main,
	"proxymap":        proxymap.Main,
	"qmgr":            qmgr.Main,
	"qmqp-sink":       qmqpsink.Main,
	"qmqp-source":     qmqpsource.Main,
	"qmqpd":           qmqpd.Main,
	"qshape":          qshape.Main,
	"rmail":           rmail.Main,
	"scache":          scache.Main,
	"sendmail":        sendmail.Main,
	"showq":           showq.Main,
	"smtp":            smtp.Main,
	"smtp-sink":       smtpsink.Main,
	"smtp-source":     smtpsource.Main,
	"smtpd":           smtpd.Main,
	"spawn":           spawn.Main,
	"tlsmgr":          tlsmgr.Main,
	"tlsproxy":        tlsproxy.Main,
	"trivial-rewrite": rewrite.Main,
	"verify":          verify.Main,
	"virtual":         virtual.Main,
}

// setGID are the programs that are installed set-gid. Such an executable must
// not become another program because its caller chose another argv[0]: with
// "postlock" in its place any command would run with the group's rights.
var setGID = []string{"postdrop", "postqueue"}

func setID() bool { return os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() }

func main() {
	args := os.Args
	name := filepath.Base(args[0])
	if name == "posthaste" && len(args) > 1 {
		args = args[1:]
		name = filepath.Base(args[0])
	}
	program, ok := programs[name]
	if setID() && !slices.Contains(setGID, name) {
		fmt.Fprintf(os.Stderr, "posthaste: this executable is set-gid and is none of %s\n", strings.Join(setGID, ", "))
		os.Exit(64)
	}
	if !ok {
		var names []string
		for n := range programs {
			names = append(names, n)
		}
		slices.Sort(names)
		fmt.Fprintf(os.Stderr, "posthaste: no program %q here; call it as one of: %s\n", name, strings.Join(names, " "))
		os.Exit(64)
	}
	os.Exit(program(args))
}
