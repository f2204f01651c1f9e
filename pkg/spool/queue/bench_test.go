package queue

import (
	"os"
	"strconv"
	"testing"

	"posthaste/pkg/spool/record"
)

// BenchmarkCommit shows what the fsync of the directory costs, alone and with
// 16 messages at once.
func BenchmarkCommit(b *testing.B) {
	for _, parallel := range []int{1, 16} {
		for name, syncer := range map[string]func(string, *os.File) error{"directory": nil, "fileonly": func(string, *os.File) error { return nil }} {
			b.Run(name+strconv.Itoa(parallel), func(b *testing.B) {
				dir := b.TempDir()
				os.Mkdir(dir+"/incoming", 0700)
				s := New(dir, Options{FS: FS{SyncDir: syncer}})
				data := make([]byte, 4000)
				b.SetParallelism(parallel)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						f, err := s.Create(Incoming, 0600)
						if err != nil {
							b.Error(err)
							return
						}
						f.Records().Put(record.TypeNormal, data)
						if err := f.Commit(); err != nil {
							b.Error(err)
						}
						os.Remove(f.Path())
					}
				})
			})
		}
	}
}
