package backup

import (
	"archive/tar"
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"longshore.dev/longshore/internal/seal"
	"longshore.dev/longshore/internal/store"
)

// Format is the version that Write makes, and the latest that Read knows.
const Format = 1

const (
	purpose      = "backup"
	manifestName = "manifest.json"
	storeName    = "store"
	bulkPrefix   = "bulk/"
	// maxDecoder bounds the memory that a stream may ask for.
	maxDecoder = 64 << 20
	// batchBytes and batchEntries bound what Parts.Entries is given at once.
	batchBytes, batchEntries = 1 << 20, 1000
)

// Manifest says what a backup is.
type Manifest struct {
	Format    int       `json:"format"`
	CreatedAt time.Time `json:"createdAt"`
	// Account and Region that the server stands for, Version the program's.
	Account string `json:"account"`
	Region  string `json:"region"`
	// Revision of the store at the cut, and how many entries it had.
	Revision int64 `json:"revision"`
	Entries  int   `json:"entries"`
}

// Write writes a backup of the entries and of the bulk data's files in a directory.
func Write(w io.Writer, s seal.Sealing, m Manifest, entries []store.Entry, bulkDir string) error {
	m.Format, m.Entries = Format, len(entries)
	sealed, err := seal.NewWriter(w, s, purpose)
	if err != nil {
		return err
	}
	compressed, err := zstd.NewWriter(sealed, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	defer compressed.Close() // a second time it does nothing
	archive := tar.NewWriter(compressed)
	if err := writeManifest(archive, m); err != nil {
		return err
	}
	if err := writeEntries(archive, entries); err != nil {
		return err
	}
	if err := writeBulk(archive, bulkDir); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	if err := compressed.Close(); err != nil {
		return err
	}
	return sealed.Close()
}

func writeManifest(archive *tar.Writer, m Manifest) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := archive.WriteHeader(&tar.Header{Name: manifestName, Mode: 0o600, Size: int64(len(raw))}); err != nil {
		return err
	}
	_, err = archive.Write(raw)
	return err
}

func entrySize(e *store.Entry) int64 { return int64(8 + len(e.Key) + len(e.Value)) }

func writeEntries(archive *tar.Writer, entries []store.Entry) error {
	var size int64
	for i := range entries {
		size += entrySize(&entries[i])
	}
	if err := archive.WriteHeader(&tar.Header{Name: storeName, Mode: 0o600, Size: size}); err != nil {
		return err
	}
	out := bufio.NewWriterSize(archive, 256<<10)
	for i := range entries {
		e := &entries[i]
		head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(len(e.Key))), uint32(len(e.Value)))
		if _, err := out.Write(append(append(head, e.Key...), e.Value...)); err != nil {
			return err
		}
	}
	return out.Flush()
}

func writeBulk(archive *tar.Writer, dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		relative, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		return writeFile(archive, name, bulkPrefix+filepath.ToSlash(relative))
	})
}

func writeFile(archive *tar.Writer, from, name string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.CopyN(archive, f, info.Size())
	return err
}

// Parts takes what Read finds, in order. A nil member takes nothing.
type Parts struct {
	Manifest func(Manifest) error
	// Entries is given the store's entries in batches, without revisions.
	Entries func([]store.Entry) error
	// File is given each file of the bulk data, by a relative path with slashes.
	File func(name string, content io.Reader) error
}

// Read reads a whole backup. Its errors wrap seal's when the stream is not as Write
// left it, or was made with another root key.
func Read(r io.Reader, s seal.Opening, p Parts) (Manifest, error) {
	var m Manifest
	sealed, err := seal.NewReader(r, s, purpose)
	if err != nil {
		return m, err
	}
	decoder, err := zstd.NewReader(sealed, zstd.WithDecoderMaxMemory(maxDecoder), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return m, err
	}
	defer decoder.Close()
	if m, err = readParts(tar.NewReader(decoder), p); err != nil {
		return m, err
	}
	// The end of the archive is not yet the stream's own.
	if _, err := io.Copy(io.Discard, decoder); err != nil {
		return m, err
	}
	_, err = io.Copy(io.Discard, sealed)
	return m, err
}

func readParts(archive *tar.Reader, p Parts) (m Manifest, err error) {
	for n := 0; ; n++ {
		h, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF) && n < 2:
			return m, errors.New("the backup has no store in it")
		case errors.Is(err, io.EOF):
			return m, nil
		case err != nil:
			return m, err
		case n == 0 && h.Name == manifestName:
			err = readManifest(archive, &m, p)
		case n == 1 && h.Name == storeName:
			err = readEntries(archive, m, p)
		case n > 1 && safe(h):
			if p.File != nil {
				err = p.File(strings.TrimPrefix(h.Name, bulkPrefix), archive)
			}
		default:
			err = fmt.Errorf("the backup holds %q where it does not belong", h.Name)
		}
		if err != nil {
			return m, err
		}
	}
}

// safe tells whether an entry is a plain file below bulk/ and nowhere else.
func safe(h *tar.Header) bool {
	name, below := strings.CutPrefix(h.Name, bulkPrefix)
	return h.Typeflag == tar.TypeReg && below && name != "." && name == path.Clean(name) && filepath.IsLocal(filepath.FromSlash(name))
}

func readManifest(archive io.Reader, m *Manifest, p Parts) error {
	raw, err := io.ReadAll(io.LimitReader(archive, 1<<20))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, m); err != nil {
		return fmt.Errorf("read the backup's manifest: %w", err)
	}
	if m.Format != Format {
		return fmt.Errorf("the backup has the format %d, this program knows %d: restore it with the version that made it", m.Format, Format)
	}
	if p.Manifest == nil {
		return nil
	}
	return p.Manifest(*m)
}

func readEntries(archive io.Reader, m Manifest, p Parts) error {
	in := bufio.NewReaderSize(archive, 256<<10)
	var batch []store.Entry
	size, count := 0, 0
	flush := func() error {
		defer func() { batch, size = nil, 0 }()
		if p.Entries == nil || len(batch) == 0 {
			return nil
		}
		return p.Entries(batch)
	}
	for {
		e, err := readEntry(in)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if size+len(e.Value) > batchBytes || len(batch) == batchEntries {
			if err := flush(); err != nil {
				return err
			}
		}
		batch, size, count = append(batch, e), size+len(e.Key)+len(e.Value), count+1
	}
	if count != m.Entries {
		return fmt.Errorf("the backup has %d entries of %d", count, m.Entries)
	}
	return flush()
}

// readEntry returns io.EOF where an entry would begin.
func readEntry(in io.Reader) (store.Entry, error) {
	var head [8]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return store.Entry{}, err
	}
	key, value := binary.BigEndian.Uint32(head[:]), binary.BigEndian.Uint32(head[4:])
	if key == 0 || key > store.MaxKeyBytes || value > store.MaxValueBytes {
		return store.Entry{}, fmt.Errorf("the backup has an entry of %d and %d bytes, which no store holds", key, value)
	}
	raw := make([]byte, key+value)
	if _, err := io.ReadFull(in, raw); err != nil {
		return store.Entry{}, io.ErrUnexpectedEOF
	}
	return store.Entry{Key: string(raw[:key]), Value: raw[key:]}, nil
}
