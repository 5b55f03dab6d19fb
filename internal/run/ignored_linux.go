package run

import (
	"bytes"
	"debug/elf"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// inheritedIgnored are the signals that were ignored when this process began, as
// after "trap ” TERM" in a shell; the command is to ignore them as well.
//
// The Go runtime catches all but HUP and INT of them before any code of ours runs.
// It keeps what it has found in runtime.fwdSig, which no call returns: so that is looked
// up in this program's symbols. Where those have been stripped, or are not as expected,
// only HUP and INT stay ignored.
var inheritedIgnored = sync.OnceValue(func() []syscall.Signal {
	file, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil
	}
	defer file.Close()
	program, err := elf.NewFile(file)
	if err != nil {
		return nil
	}
	const signals = 65 // with 0; more on some systems
	word := 8
	if program.Class == elf.ELFCLASS32 {
		word = 4
	}
	addr, size := symbol(file, program, "runtime.fwdSig")
	if program.Type != elf.ET_EXEC || size < uint64(signals*word) {
		return nil
	}
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		return nil
	}
	defer memory.Close()
	found := make([]byte, signals*word)
	if _, err := memory.ReadAt(found, int64(addr)); err != nil {
		return nil
	}
	var ignored []syscall.Signal
	for sig := 1; sig < signals; sig++ {
		const sigIgn = 1
		if number(program, found[sig*word:][:word]) == sigIgn {
			ignored = append(ignored, syscall.Signal(sig))
		}
	}
	return ignored
})

// symbol looks up one symbol in the file's pages: to read all, as elf.File.Symbols does,
// would take several milliseconds.
func symbol(file *os.File, program *elf.File, name string) (addr, size uint64) {
	table, names := program.Section(".symtab"), program.Section(".strtab")
	info, err := file.Stat()
	if table == nil || names == nil || err != nil {
		return 0, 0
	}
	pages, err := unix.Mmap(int(file.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return 0, 0
	}
	defer func() { _ = unix.Munmap(pages) }()
	length := uint64(len(pages))
	if names.Offset+names.FileSize > length || table.Offset+table.FileSize > length {
		return 0, 0
	}
	at := bytes.Index(pages[names.Offset:][:names.FileSize], []byte("\x00"+name+"\x00")) + 1
	if at == 0 {
		return 0, 0
	}
	entries := pages[table.Offset:][:table.FileSize]
	// An entry begins with the name's place; where the address and size are, depends.
	entry, addrAt, sizeAt, word := elf.Sym64Size, 8, 16, 8
	if program.Class == elf.ELFCLASS32 {
		entry, addrAt, sizeAt, word = elf.Sym32Size, 4, 8, 4
	}
	for ; len(entries) >= entry; entries = entries[entry:] {
		if program.ByteOrder.Uint32(entries) == uint32(at) {
			return number(program, entries[addrAt:][:word]), number(program, entries[sizeAt:][:word])
		}
	}
	return 0, 0
}

func number(program *elf.File, word []byte) uint64 {
	if len(word) == 4 {
		return uint64(program.ByteOrder.Uint32(word))
	}
	return program.ByteOrder.Uint64(word)
}
