//! Serving requests (virtio §5.13.6.3 and following). What a careful driver never
//! asks for ends the test; what depends on the state of domains gets a status.

use super::{BYPASS_CONFIG, MMIO, PROBE, SimViommu, lock, tables};

const UNSUPPORTED: u8 = 2;
const NOENT: u8 = 6;

/// A kind of request.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Attach = 1,
    Detach,
    Map,
    Unmap,
    Probe,
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (word, rest) = self
            .0
            .split_first_chunk()
            .expect("the request is long enough");
        self.0 = rest;
        *word
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
    /// What is left is reserved.
    fn end(&self, len: usize) {
        assert_eq!(self.0.len(), len, "the length of a request");
        assert!(self.0.iter().all(|&byte| byte == 0), "a reserved field");
    }
}

impl SimViommu {
    /// Serves a request; gives what the device writes.
    pub(super) fn request(&mut self, bytes: &[u8], room: u32) -> Vec<u8> {
        let kind = match bytes[0] {
            1 => Kind::Attach,
            2 => Kind::Detach,
            3 => Kind::Map,
            4 => Kind::Unmap,
            5 => Kind::Probe,
            other => panic!("a request of type {other}"),
        };
        assert_eq!(bytes[1..4], [0; 3], "a reserved field");
        let (status, mut answer) = match self.answers.get(&kind) {
            Some(&status) => (status, Vec::new()),
            None => self.serve(kind, &mut Reader(&bytes[4..])),
        };
        if kind == Kind::Probe {
            answer.resize(self.probe_size as usize, 0);
        }
        answer.extend([status, 0, 0, 0]);
        assert_eq!(room as usize, answer.len(), "the room for an answer");
        self.served.push((kind, status));
        answer
    }

    fn serve(&mut self, kind: Kind, fields: &mut Reader<'_>) -> (u8, Vec<u8>) {
        let tables = self.tables();
        let mut tables = lock(&tables);
        let status = match kind {
            Kind::Attach => {
                let (domain, endpoint, flags) = (fields.u32(), fields.u32(), fields.u32());
                fields.end(4);
                assert!(flags <= 1, "flags of ATTACH");
                assert!(flags == 0 || self.registers.has(BYPASS_CONFIG));
                assert!(!tables.bypass, "an attachment while others bypass");
                self.check_domain(domain);
                match endpoint < self.endpoints {
                    true => tables.attach(domain, endpoint, flags == 1),
                    false => NOENT,
                }
            }
            Kind::Detach => {
                let (domain, endpoint) = (fields.u32(), fields.u32());
                fields.end(8);
                tables.detach(domain, endpoint)
            }
            Kind::Map => {
                let (domain, first, last) = (fields.u32(), fields.u64(), fields.u64());
                let (pa, flags) = (fields.u64(), fields.u32());
                fields.end(0);
                assert!(flags & tables::MMIO == 0 || self.registers.has(MMIO));
                assert!(self.input.0 <= first && last <= self.input.1, "input range");
                tables.granule = self.page_sizes & self.page_sizes.wrapping_neg();
                tables.map(domain, first, last, pa, flags)
            }
            Kind::Unmap => {
                let (domain, first, last) = (fields.u32(), fields.u64(), fields.u64());
                fields.end(4);
                tables.unmap(domain, first, last)
            }
            Kind::Probe => {
                let endpoint = fields.u32();
                fields.end(64);
                if !self.registers.has(PROBE) {
                    return (UNSUPPORTED, Vec::new());
                }
                if endpoint >= self.endpoints {
                    return (NOENT, Vec::new());
                }
                return (0, self.properties.clone());
            }
        };
        (status, Vec::new())
    }

    fn check_domain(&self, domain: u32) {
        let (first, last) = self.domains;
        assert!((first..=last).contains(&domain), "domain {domain}");
    }
}
