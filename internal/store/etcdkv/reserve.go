package etcdkv

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// reserveBytes of the disk are kept for the database beyond its present size. etcd
// ends when it cannot write there, and it writes a tenth of a second after it has said
// yes: a disk that others fill in between must not take that room.
const reserveBytes = 32 << 20

// reserve gives the member's database its blocks in advance, those that its file has
// not written yet and reserveBytes more. Etcd does the same for its log. What the file
// system cannot do is left: room still guards the disk.
func (d *dataDir) reserve() error {
	f, err := os.OpenFile(filepath.Join(d.member(), "member", "snap", "db"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Blocks*512 >= st.Size+reserveBytes/2 {
		return nil // enough until the next look
	}
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, st.Size+reserveBytes)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}
