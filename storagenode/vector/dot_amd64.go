package vector

import "golang.org/x/sys/cpu"

// newDot chooses the kernel for this machine.
func newDot() func(a, b []int16) int32 {
	if cpu.X86.HasAVX2 {
		return dotSIMD
	}
	return dotGo
}

// dotSIMD is dotGo, sixteen components at a time. The lengths are checked here, outside the assembly.
func dotSIMD(a, b []int16) int32 {
	n := len(a) &^ (codeBlock - 1)
	if n == 0 {
		return 0
	}
	b = b[:n]
	return dotAVX2(&a[0], &b[0], n)
}

// dotAVX2 takes n components, a positive multiple of 32. It needs AVX2.
//
//go:noescape
func dotAVX2(a, b *int16, n int) int32
