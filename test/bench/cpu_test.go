package main
import ("testing";"posthaste/test/world";"time")
func TestCPU(t *testing.T){ for _, s := range []world.Suite{world.Debian, world.Ours} {
 w, err := world.New(world.Options{Suite:s, Main: settings}); if err!=nil {t.Fatal(err)}
 loadTools(w); w.Start()
 sink := w.Command("/usr/local/load/smtp-sink", "-u","nobody","127.0.0.1:2600", "200"); sink.Start(); accepting(w,"127.0.0.1:2600"); warm(w,"someone@sink.test")
 b:=time.Now(); v, err := load(w, 20, 2001, "someone@sink.test"); t.Log(s, v, err, time.Since(b))
 r := w.Sh(`for p in /proc/[0-9]*; do n=$(tr '\0' ' ' <$p/cmdline | cut -d' ' -f1); set -- $(cut -d')' -f2 $p/stat); echo "$n ${12} ${13}"; done 2>/dev/null | awk '{n=$1; sub(".*/","",n); u[n]+=$2; s[n]+=$3; c[n]++} END{for(n in u) if(u[n]+s[n]>3) printf "%-16s procs=%d user=%.2f sys=%.2f\n", n, c[n], u[n]/100, s[n]/100}' | sort`)
 t.Log("\n"+r.Out); w.Close() } }
