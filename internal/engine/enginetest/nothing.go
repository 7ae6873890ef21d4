package enginetest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// Nothing returns a program for amd64 that exits with 0 and does nothing else, not
// even what a C library does before main. So what is measured with it is the
// engine: a static busybox asks the processor a hundred times what it can do, which
// on a virtual machine takes a millisecond.
func Nothing() []byte {
	code := []byte{
		0xb8, 60, 0, 0, 0, // mov $SYS_exit, %eax
		0x31, 0xff, // xor %edi, %edi
		0x0f, 0x05, // syscall
	}
	const base, heads = 0x400000, 64 + 56
	file := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT), Entry: base + heads,
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64,
	}
	copy(file.Ident[:], elf.ELFMAG)
	file.Ident[elf.EI_CLASS], file.Ident[elf.EI_DATA], file.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	size := uint64(heads + len(code))
	segment := elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: 0x1000,
	}
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, file) // a Buffer takes all
	_ = binary.Write(&b, binary.LittleEndian, segment)
	b.Write(code)
	return b.Bytes()
}
