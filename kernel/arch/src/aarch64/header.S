// What an image starts with: the arm64 boot protocol's header (Linux,
// Documentation/arch/arm64/booting.rst), which is at the same time an EFI application's
// (PE/COFF specification; UEFI §2.1.1). The first instruction is also the letters MZ,
// and does nothing that matters.
//
// Firmware loads two sections: the text, and all the rest, which it may write. The
// offsets come from the linker script, since only it knows them.

.section .head, "ax"
    add     x13, x18, #0x16         // "MZ"
    b       _start
    .quad   0                       // text_offset
    .quad   image_size
    .quad   0b1010                  // little endian, 4 KiB pages, anywhere
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   pe_header - mz_header

mz_header = . - 64
pe_header:
    .ascii  "PE\0\0"
    .short  0xaa64                  // aarch64
    .short  2                       // sections
    .long   0, 0, 0                 // no time stamp, no symbols
    .short  sections - optional
    .short  0x0206                  // executable, without line numbers and debug data
optional:
    .short  0x020b                  // PE32+
    .short  0
    .long   pe_text_size
    .long   pe_data_size
    .long   0
    .long   pe_entry
    .long   0x1000                  // base of the code
    .quad   0                       // image base: anywhere
    .long   0x1000, 0x200           // alignment in memory and in the file
    .short  0, 0, 0, 0, 0, 0
    .long   0
    .long   image_size
    .long   0x1000                  // size of the headers
    .long   0                       // no checksum
    .short  10                      // an EFI application
    .short  0x0100                  // data need not be executable
    .quad   0, 0, 0, 0
    .long   0
    .long   6                       // directories, all empty
    .quad   0, 0, 0, 0, 0, 0
sections:
    .ascii  ".text\0\0\0"
    .long   pe_text_size, 0x1000, pe_text_size, 0x1000
    .long   0, 0, 0
    .long   0x60000020              // code, to be read and executed
    .ascii  ".data\0\0\0"
    .long   pe_data_memory, pe_data, pe_data_size, pe_data
    .long   0, 0, 0
    .long   0xc0000040              // data, to be read and written
