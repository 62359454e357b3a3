package raftgroup

import (
	"bytes"
	"fmt"
	"testing"
)

// BenchmarkEntry is the coding of an entry, with its checksum, of commands of 300 bytes.
func BenchmarkEntry(b *testing.B) {
	for _, commands := range []int{1, 256} {
		e := Entry{Version: entryVersion, Level: 1, Time: 1792290000123456}
		for i := range commands {
			e.Commands = append(e.Commands, bytes.Repeat([]byte{byte(i)}, 300))
		}
		encoded := appendEntry(nil, "masters", e)
		b.Run(fmt.Sprintf("append/%d", commands), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(encoded)))
			var buf []byte
			for b.Loop() {
				buf = appendEntry(buf[:0], "masters", e)
			}
		})
		b.Run(fmt.Sprintf("decode/%d", commands), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(encoded)))
			for b.Loop() {
				if got, err := decodeEntry("masters", encoded); err != nil || len(got.Commands) != commands {
					b.Fatal(len(got.Commands), err)
				}
			}
		})
	}
}
