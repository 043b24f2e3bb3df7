package image

// Limits bound what an image may cost this node, whoever made it. Zero fields
// take the defaults.
type Limits struct {
	// ManifestBytes bounds a manifest or an index, ConfigBytes a configuration.
	ManifestBytes, ConfigBytes int64
	// Layers bounds the layers of an image; overlayfs and mount(2) have limits too.
	Layers int
	// IndexEntries bounds the manifests that an index lists.
	IndexEntries int
	// LayerBytes bounds one layer as the registry stores it.
	LayerBytes int64
	// UnpackedBytes and Files bound what one layer unpacks to.
	UnpackedBytes int64
	Files         int
	// ArchiveBytes and ArchiveFiles bound an archive given to Import.
	ArchiveBytes int64
	ArchiveFiles int
}

const (
	mib = 1 << 20
	gib = 1 << 30
)

func (l Limits) withDefaults() Limits {
	def := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	defInt := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.ManifestBytes, 4*mib)
	def(&l.ConfigBytes, 8*mib)
	def(&l.LayerBytes, 64*gib)
	def(&l.UnpackedBytes, 128*gib)
	def(&l.ArchiveBytes, 256*gib)
	defInt(&l.Layers, 128)
	defInt(&l.IndexEntries, 1024)
	defInt(&l.Files, 4_000_000)
	defInt(&l.ArchiveFiles, 10_000)
	return l
}
