//! The image as an EFI application: takes the device tree and the map of memory from the
//! firmware, ends its services, and enters a copy of the image by the arm64 boot
//! protocol. The firmware loads applications at any page, and the image is at home at
//! multiples of 2 MiB, hence the copy.
//!
//! All of this runs in the application, on the firmware's stack. What the kernel is to
//! know of it later is in the part of the image that is copied last.

use alloc::vec::Vec;
use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use mastiff_core::addr::{PAGE, PhysRange};
use uefi_raw::table::boot::{AllocateType, BootServices, MemoryDescriptor, MemoryType};
use uefi_raw::table::system::SystemTable;
use uefi_raw::{Guid, Handle, Status, guid};

use super::boot::blob_at;
use super::image;

global_asm!(include_str!("efi.S"), boot = sym boot);

unsafe extern "C" {
    fn efi_leave(image: u64, tree: u64, tree_end: u64) -> !;
}

/// The configuration table that is a flattened device tree (UEFI §4.6.1.3).
const DEVICE_TREE: Guid = guid!("b1b621d5-f19c-41a5-830b-d9152c69aae0");

const ALIGNMENT: u64 = 2 << 20;
/// A map of memory that is longer is refused; firmware has some hundred entries.
const MAP_WORDS: usize = 4096;
/// How often ending the firmware's services is tried: the map may change on the way.
const TRIES: usize = 4;

/// Pieces of memory that the firmware gave us, as start and end.
const PIECES: usize = 64;
#[unsafe(link_section = ".data.efi")]
static MEMORY: [[AtomicU64; 2]; PIECES] = [const { [const { AtomicU64::new(0) }; 2] }; PIECES];
#[unsafe(link_section = ".data.efi")]
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// The memory that the firmware gave us; nothing where there was no such firmware.
pub(crate) fn memory() -> Vec<PhysRange> {
    let pieces = MEMORY.iter().take(COUNT.load(Ordering::Relaxed));
    let ends = pieces.map(|piece| [0, 1].map(|end: usize| piece[end].load(Ordering::Relaxed)));
    ends.map(|[start, end]| image::range(start..end)).collect()
}

/// From the application's entry on; what comes back is why it could not go on.
extern "efiapi" fn boot(handle: Handle, system: *const SystemTable) -> Status {
    // SAFETY: the firmware's contract with an application (UEFI §4): both are there, and
    // stay until its services are ended.
    let (system, services) = unsafe { (&*system, &*(*system).boot_services) };
    let Some(tree) = tree(system) else {
        let why = "Mastiff: this firmware has no device tree in its configuration table \
                   (on QEMU: -M acpi=off); ACPI is not understood\r\n";
        say(system, why);
        return Status::UNSUPPORTED;
    };
    let copy = match allocate(services) {
        Ok(at) => at,
        Err(status) => {
            say(
                system,
                "Mastiff: the firmware has no memory for the image\r\n",
            );
            return status;
        }
    };
    if let Err(status) = end_services(services, handle) {
        say(
            system,
            "Mastiff: the firmware does not end its services\r\n",
        );
        return status;
    }
    let from = image::image_base() as *const u8;
    let len = image::bss_start() - image::image_base();
    let blob = blob_at(tree);
    // SAFETY: the copy is ours by allocation and apart from the image. What comes next
    // is entered as a boot loader does; nothing of the firmware runs any more.
    unsafe {
        from.copy_to_nonoverlapping(copy as *mut u8, len as usize);
        efi_leave(copy, blob.start, blob.end)
    }
}

/// The address of the tree.
fn tree(system: &SystemTable) -> Option<u64> {
    let count = system.number_of_configuration_table_entries;
    // SAFETY: so many entries are there, by the firmware's contract.
    let tables = unsafe { core::slice::from_raw_parts(system.configuration_table, count) };
    let table = tables
        .iter()
        .find(|table| table.vendor_guid == DEVICE_TREE)?;
    Some(table.vendor_table.addr() as u64)
}

/// Says something on the firmware's console.
fn say(system: &SystemTable, text: &str) {
    for letter in text.bytes() {
        let letters = [u16::from(letter), 0];
        // SAFETY: the console's own function, on a string that ends in 0. That it fails
        // is nothing that anybody could be told.
        let _ = unsafe { ((*system.stdout).output_string)(system.stdout, letters.as_ptr()) };
    }
}

/// Room for the image at a place that it is at home at.
fn allocate(services: &BootServices) -> Result<u64, Status> {
    let bytes = image::heap_end() - image::image_base() + ALIGNMENT;
    let mut at = 0;
    // SAFETY: a boot service, called as UEFI §7.2.1 has it.
    let status = unsafe {
        (services.allocate_pages)(
            AllocateType::ANY_PAGES,
            MemoryType::LOADER_DATA,
            (bytes / PAGE) as usize,
            &mut at,
        )
    };
    match status {
        Status::SUCCESS => Ok(at.next_multiple_of(ALIGNMENT)),
        status => Err(status),
    }
}

/// Ends the firmware's services, and notes the memory that is ours then.
fn end_services(services: &BootServices, handle: Handle) -> Result<(), Status> {
    let mut map = [0u64; MAP_WORDS];
    let mut last = Status::ABORTED;
    for _ in 0..TRIES {
        let (mut size, mut key, mut stride, mut version) = (size_of_val(&map), 0, 0, 0);
        let at = map.as_mut_ptr().cast::<MemoryDescriptor>();
        // SAFETY: boot services, called as UEFI §7.2.3 and §7.4.6 have it.
        last = unsafe {
            match (services.get_memory_map)(&mut size, at, &mut key, &mut stride, &mut version) {
                Status::SUCCESS => (services.exit_boot_services)(handle, key),
                status => return Err(status),
            }
        };
        if last == Status::SUCCESS {
            note(&map, size, stride);
            return Ok(());
        }
    }
    Err(last)
}

/// Notes what of the map is memory that a kernel may use (UEFI §7.2, table 7.6).
fn note(map: &[u64], size: usize, stride: usize) {
    const OURS: [MemoryType; 5] = [
        MemoryType::LOADER_CODE,
        MemoryType::LOADER_DATA,
        MemoryType::BOOT_SERVICES_CODE,
        MemoryType::BOOT_SERVICES_DATA,
        MemoryType::CONVENTIONAL,
    ];
    let (mut count, mut end) = (0, 0);
    for entry in map[..size / 8].chunks_exact((stride / 8).max(4)) {
        // Type and padding, start, virtual start, pages.
        let (kind, start, pages) = (entry[0] as u32, entry[1], entry[3]);
        if !OURS.contains(&MemoryType(kind)) || pages == 0 {
            continue;
        }
        // Neighbours are one piece.
        if start == end && count > 0 {
            count -= 1;
        } else if count < PIECES {
            MEMORY[count][0].store(start, Ordering::Relaxed);
        } else {
            continue;
        }
        end = start + pages * PAGE;
        MEMORY[count][1].store(end, Ordering::Relaxed);
        count += 1;
    }
    COUNT.store(count, Ordering::Relaxed);
}
