package pack

// The first bytes of the MessagePack formats (github.com/msgpack/msgpack/blob/master/spec.md). The library has them as
// variables, which a switch cannot be compiled into a table over; a test holds the two equal.
const (
	posFixintMax = 0x7f
	fixmapMin    = 0x80
	fixmapMax    = 0x8f
	fixarrayMin  = 0x90
	fixarrayMax  = 0x9f
	fixstrMin    = 0xa0
	fixstrMax    = 0xbf
	codeNil      = 0xc0
	codeFalse    = 0xc2
	codeTrue     = 0xc3
	codeBin8     = 0xc4
	codeBin16    = 0xc5
	codeBin32    = 0xc6
	codeExt8     = 0xc7
	codeExt16    = 0xc8
	codeExt32    = 0xc9
	codeFloat32  = 0xca
	codeFloat64  = 0xcb
	codeUint8    = 0xcc
	codeUint16   = 0xcd
	codeUint32   = 0xce
	codeUint64   = 0xcf
	codeInt8     = 0xd0
	codeInt16    = 0xd1
	codeInt32    = 0xd2
	codeInt64    = 0xd3
	codeFixext1  = 0xd4
	codeFixext2  = 0xd5
	codeFixext4  = 0xd6
	codeFixext8  = 0xd7
	codeFixext16 = 0xd8
	codeStr8     = 0xd9
	codeStr16    = 0xda
	codeStr32    = 0xdb
	codeArray16  = 0xdc
	codeArray32  = 0xdd
	codeMap16    = 0xde
	codeMap32    = 0xdf
	negFixintMin = 0xe0
)

// Kind is the family of a value on the wire.
type Kind byte

// The kinds a Reader meets. End is the end of the input, Bad a byte MessagePack does not use.
const (
	End Kind = iota
	Bad
	Nil
	Bool
	Int // any integer format, signed or not
	Float
	Str
	Bin
	Array
	Map
	Ext
)

var kindNames = [...]string{"the end of the input", "an unused format byte", "nil", "a boolean", "an integer", "a float",
	"a string", "binary", "an array", "a map", "an extension"}

// String names the kind with its article, as error messages want it.
func (k Kind) String() string { return kindNames[k] }

func kindOf(c byte) Kind {
	switch {
	case c <= posFixintMax || c >= negFixintMin || c >= codeUint8 && c <= codeInt64:
		return Int
	case c >= fixstrMin && c <= fixstrMax || c >= codeStr8 && c <= codeStr32:
		return Str
	case c >= fixmapMin && c <= fixmapMax || c == codeMap16 || c == codeMap32:
		return Map
	case c >= fixarrayMin && c <= fixarrayMax || c == codeArray16 || c == codeArray32:
		return Array
	case c == codeNil:
		return Nil
	case c == codeFalse || c == codeTrue:
		return Bool
	case c == codeFloat32 || c == codeFloat64:
		return Float
	case c >= codeBin8 && c <= codeBin32:
		return Bin
	case c >= codeExt8 && c <= codeExt32 || c >= codeFixext1 && c <= codeFixext16:
		return Ext
	}
	return Bad
}
