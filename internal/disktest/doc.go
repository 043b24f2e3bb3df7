// Package disktest mounts small disks for tests of what happens when they are full.
//
// [Ext4] is a real file system on a loop device, with bytes and inodes that run out.
// It needs root, mkfs.ext4 and loop devices; where one of them is missing the test
// skips and says so. Whoever mounts it unmounts it: that this succeeds shows that
// nobody holds on to anything there.
package disktest
