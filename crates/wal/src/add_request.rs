//! Finds the items in the body of an Add request and checks them, without decoding and without copying: the twin of
//! `src/ts/protocol/add_request.ts`, field for field. What it accepts, a protobuf decoder accepts too.

/// What is wrong with a request: the byte at which it stops to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Offset in the body.
    pub at: usize,
}

/// The outer fields of a request, and what its items add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddRequest {
    /// Topic that the request names.
    pub topic_id: i32,
    /// Store that it names.
    pub store_id: i32,
    /// Queue that it names.
    pub queue_id: i32,
    /// How many items it has.
    pub items: usize,
    /// Their bytes.
    pub item_bytes: usize,
    /// Items whose meta names another topic than the one asked about.
    pub strangers: usize,
    /// Where the first malformed item begins. The envelope is sound all the same.
    pub malformed_item: Option<usize>,
}

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const GROUP_START: u32 = 3;
const GROUP_END: u32 = 4;
const FIXED32: u32 = 5;

const TAG_BYTES_MAX: usize = 5;
const VARINT_BYTES_MAX: usize = 10;
const GROUP_DEPTH_MAX: u32 = 100;

const REQUEST_TOPIC_ID: u32 = (1 << 3) | VARINT;
const REQUEST_STORE_ID: u32 = (2 << 3) | VARINT;
const REQUEST_QUEUE_ID: u32 = (3 << 3) | VARINT;
const REQUEST_ITEMS: u32 = (50 << 3) | BYTES;
const REQUEST_MASTER_ADDR: u32 = (100 << 3) | BYTES;
const ITEM_SYS_COOKIES: u32 = (62 << 3) | BYTES;
const ITEM_META: u32 = (201 << 3) | BYTES;
const META_TOPIC_ID: u32 = (2 << 3) | VARINT;
const META_USER_COOKIES: u32 = (61 << 3) | BYTES;
const COOKIES_COOKIE: u32 = (1 << 3) | BYTES;

type Result<T> = std::result::Result<T, Malformed>;

/// Scans a request: the envelope, and every item; those of another topic than `topic_id` are counted. `shapes` is what
/// was learned from requests before.
pub fn scan_add_request(body: &[u8], topic_id: i32, shapes: &mut ItemShapes) -> Result<AddRequest> {
    let mut reader = Reader { rest: body, end: body.len(), trace: &mut Untraced };
    let mut request = AddRequest::default();
    while !reader.rest.is_empty() {
        match reader.tag()? {
            REQUEST_ITEMS => {
                let item = reader.content()?;
                let (item, start, end) = (item.rest, item.at(), item.end);
                request.items += 1;
                request.item_bytes += item.len();
                let next_may_be_alike = request.items == 1 && end + item.len() < body.len();
                match shapes.topic_of(item, next_may_be_alike) {
                    Ok(topic) => request.strangers += usize::from(topic != topic_id),
                    Err(_) => request.malformed_item = request.malformed_item.or(Some(start)),
                }
            }
            REQUEST_TOPIC_ID => request.topic_id = reader.int32()?,
            REQUEST_STORE_ID => request.store_id = reader.int32()?,
            REQUEST_QUEUE_ID => request.queue_id = reader.int32()?,
            REQUEST_MASTER_ADDR => reader.content()?.fields()?,
            tag => reader.skip(tag, 0)?,
        }
    }
    Ok(request)
}

/// Items follow each other, and most are alike but for what they carry: one that has the shape of one before need not
/// be taken apart.
#[derive(Default)]
pub struct ItemShapes {
    /// Length of the item before, 0 before the first.
    last_bytes: usize,
    /// The newest shape, and the topic of all items that have it.
    shape: Option<(ItemShape, i32)>,
}

impl ItemShapes {
    /// Checks an item; the topic of its meta. Learns its shape if there are others of its length.
    fn topic_of(&mut self, item: &[u8], next_may_be_alike: bool) -> Result<i32> {
        if let Some((shape, topic)) = &self.shape
            && shape.fits(item)
        {
            return Ok(*topic);
        }
        let repeats = item.len() == self.last_bytes || next_may_be_alike;
        self.last_bytes = item.len();
        if !repeats || item.len() > SHAPE_BYTES_MAX {
            return Reader { rest: item, end: item.len(), trace: &mut Untraced }.item_topic();
        }
        let mut trace = LookedAt { mask: vec![0; item.len()] };
        let topic = Reader { rest: item, end: item.len(), trace: &mut trace }.item_topic()?;
        self.shape = Some((ItemShape { mask: trace.mask, model: item.to_vec() }, topic));
        Ok(topic)
    }
}

/// Longer items are taken apart: to compare what they carry costs more.
const SHAPE_BYTES_MAX: usize = 1280;

/// All that the way of a reader through an item depends on, and the topic.
struct ItemShape {
    /// The bits of each byte that have something to do with it.
    mask: Vec<u8>,
    /// The bytes of an item that went this way.
    model: Vec<u8>,
}

impl ItemShape {
    /// Whether a reader would go through this item on the same way. Byte by byte: the compiler makes it sixteen.
    fn fits(&self, item: &[u8]) -> bool {
        let differs = |((byte, mask), model): ((&u8, &u8), &u8)| (byte ^ model) & mask;
        item.len() == self.mask.len() && item.iter().zip(&self.mask).zip(&self.model).map(differs).fold(0, u8::max) == 0
    }
}

/// Is told what a reader looked at.
trait Trace {
    /// The way depends on these bits of the bytes.
    fn looked_at(&mut self, start: usize, end: usize, mask: u8);
}

struct Untraced;

/// Of a number whose value does not matter, each byte tells whether another one follows.
const CONTINUES: u8 = 0x80;

impl Trace for Untraced {
    fn looked_at(&mut self, _start: usize, _end: usize, _mask: u8) {}
}

/// The bits of an item that were looked at.
struct LookedAt {
    mask: Vec<u8>,
}

impl Trace for LookedAt {
    fn looked_at(&mut self, start: usize, end: usize, mask: u8) {
        self.mask[start..end].iter_mut().for_each(|bits| *bits |= mask);
    }
}

/// Reads protobuf fields from the front of `rest`, which ends at the offset `end` of the body.
struct Reader<'a, 't, T: Trace> {
    rest: &'a [u8],
    end: usize,
    trace: &'t mut T,
}

impl<'a, T: Trace> Reader<'a, '_, T> {
    /// Offset of the next byte in the body.
    fn at(&self) -> usize {
        self.end - self.rest.len()
    }

    fn malformed<R>(&self) -> Result<R> {
        Err(Malformed { at: self.at() })
    }

    /// Goes on with `rest`.
    #[inline]
    fn pass(&mut self, rest: &'a [u8], mask: u8) {
        let start = self.at();
        self.rest = rest;
        self.trace.looked_at(start, self.at(), mask);
    }

    #[inline]
    fn varint(&mut self) -> Result<u64> {
        match self.rest {
            // Most are short.
            [byte, rest @ ..] if *byte < 0x80 => {
                self.pass(rest, u8::MAX);
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for (number, byte) in self.rest.iter().take(VARINT_BYTES_MAX).enumerate() {
            // The tenth byte holds one bit that counts; the others fall off, as in every decoder.
            value |= u64::from(byte & 0x7f) << (7 * number as u32);
            if *byte < 0x80 {
                self.pass(&self.rest[number + 1..], u8::MAX);
                return Ok(value);
            }
        }
        self.malformed()
    }

    /// As `varint`, where the value does not matter: eight bytes in one step.
    #[inline]
    fn skip_varint(&mut self) -> Result<()> {
        if let Some(word) = self.rest.first_chunk::<8>() {
            let ends = !u64::from_le_bytes(*word) & 0x8080_8080_8080_8080;
            if ends != 0 {
                self.pass(&self.rest[ends.trailing_zeros() as usize / 8 + 1..], CONTINUES);
                return Ok(());
            }
        }
        let ends = self.rest.iter().take(VARINT_BYTES_MAX).position(|byte| *byte < 0x80);
        let Some(last) = ends else { return self.malformed() };
        self.pass(&self.rest[last + 1..], CONTINUES);
        Ok(())
    }

    #[inline]
    fn tag(&mut self) -> Result<u32> {
        match self.rest {
            [byte @ 8..0x80, rest @ ..] => {
                self.pass(rest, u8::MAX);
                Ok(u32::from(*byte))
            }
            [low @ 0x80..=0xff, high @ 1..0x80, rest @ ..] => {
                self.pass(rest, u8::MAX);
                Ok(u32::from(low & 0x7f) | (u32::from(*high) << 7))
            }
            _ => self.long_tag(),
        }
    }

    fn long_tag(&mut self) -> Result<u32> {
        let at = self.at();
        let value = self.varint()?;
        let tag = u32::try_from(value).ok().filter(|tag| tag >> 3 != 0 && self.at() - at <= TAG_BYTES_MAX);
        tag.ok_or(Malformed { at })
    }

    fn int32(&mut self) -> Result<i32> {
        Ok(self.varint()? as u32 as i32)
    }

    /// The content of the field whose tag was just read.
    #[inline]
    fn content(&mut self) -> Result<Reader<'a, '_, T>> {
        let at = self.at();
        let length = self.varint()?;
        if length > self.rest.len() as u64 {
            return Err(Malformed { at });
        }
        let (content, rest) = self.rest.split_at(length as usize);
        self.rest = rest;
        Ok(Reader { rest: content, end: self.end - rest.len(), trace: self.trace })
    }

    fn fields(&mut self) -> Result<()> {
        while !self.rest.is_empty() {
            let tag = self.tag()?;
            self.skip(tag, 0)?;
        }
        Ok(())
    }

    fn cookies(&mut self) -> Result<()> {
        while !self.rest.is_empty() {
            match self.tag()? {
                COOKIES_COOKIE => self.content()?.fields()?,
                tag => self.skip(tag, 0)?,
            }
        }
        Ok(())
    }

    /// Checks an item; the topic of its meta, 0 without one.
    fn item_topic(&mut self) -> Result<i32> {
        let mut topic_id = 0;
        while !self.rest.is_empty() {
            match self.tag()? {
                ITEM_META => self.content()?.meta(&mut topic_id)?,
                ITEM_SYS_COOKIES => self.content()?.cookies()?,
                tag => self.skip(tag, 0)?,
            }
        }
        Ok(topic_id)
    }

    fn meta(&mut self, topic_id: &mut i32) -> Result<()> {
        while !self.rest.is_empty() {
            match self.tag()? {
                META_TOPIC_ID => *topic_id = self.int32()?,
                META_USER_COOKIES => self.content()?.cookies()?,
                tag => self.skip(tag, 0)?,
            }
        }
        Ok(())
    }

    #[inline]
    fn skip(&mut self, tag: u32, depth: u32) -> Result<()> {
        match tag & 7 {
            VARINT => self.skip_varint(),
            BYTES => self.content().map(|_| ()),
            FIXED64 => self.advance(8),
            FIXED32 => self.advance(4),
            GROUP_START => self.skip_group(tag, depth),
            _ => self.malformed(),
        }
    }

    fn skip_group(&mut self, start_tag: u32, depth: u32) -> Result<()> {
        if depth >= GROUP_DEPTH_MAX {
            return self.malformed();
        }
        let end_tag = start_tag - GROUP_START + GROUP_END;
        loop {
            let tag = self.tag()?;
            if tag == end_tag {
                return Ok(());
            }
            self.skip(tag, depth + 1)?;
        }
    }

    fn advance(&mut self, bytes: usize) -> Result<()> {
        match self.rest.split_at_checked(bytes) {
            Some((_, rest)) => {
                self.rest = rest;
                Ok(())
            }
            None => self.malformed(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn scan(body: &[u8], topic_id: i32) -> Result<AddRequest> {
        scan_add_request(body, topic_id, &mut ItemShapes::default())
    }

    fn field(tag: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = varint(u64::from(tag));
        bytes.extend(varint(content.len() as u64));
        bytes.extend_from_slice(content);
        bytes
    }

    fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    fn number(tag: u32, value: u64) -> Vec<u8> {
        [varint(u64::from(tag)), varint(value)].concat()
    }

    fn item(topic_id: u64) -> Vec<u8> {
        let meta = [number(META_TOPIC_ID, topic_id), number((5 << 3) | VARINT, u64::MAX)].concat();
        [field(10, b"buffer"), field(ITEM_META, &meta)].concat()
    }

    fn request(items: &[Vec<u8>]) -> Vec<u8> {
        let mut body = [number(REQUEST_TOPIC_ID, 7), number(REQUEST_QUEUE_ID, 3)].concat();
        items.iter().for_each(|item| body.extend(field(REQUEST_ITEMS, item)));
        body
    }

    #[test]
    fn items_are_found_counted_and_told_apart_by_topic() {
        let items = [item(7), item(8), item(7)];
        let body = request(&items);
        let item_bytes = items.iter().map(Vec::len).sum();
        let counts = AddRequest { items: 3, item_bytes, strangers: 1, ..AddRequest::default() };
        let expected = AddRequest { topic_id: 7, queue_id: 3, ..counts };
        assert_eq!(scan(&body, 7), Ok(expected));
    }

    #[test]
    fn a_negative_queue_is_ten_bytes_long() {
        let body = number(REQUEST_QUEUE_ID, -2i64 as u64);
        assert_eq!(scan(&body, 7).map(|scan| scan.queue_id), Ok(-2));
    }

    /// What the scan makes of a request if each item is taken apart.
    fn scan_one_by_one(items: &[Vec<u8>]) -> (usize, Option<usize>) {
        let scans: Vec<_> = items.iter().map(|item| scan(&request(std::slice::from_ref(item)), 7)).collect();
        let is_malformed = |scan: &Result<AddRequest>| scan.is_ok_and(|scan| scan.malformed_item.is_some());
        let strangers = scans.iter().flatten().map(|scan| scan.strangers).sum();
        (strangers, scans.iter().position(is_malformed))
    }

    #[test]
    fn an_item_of_the_shape_of_one_before_is_judged_as_if_it_stood_alone() {
        let model = item(7);
        let (mut malformed, mut strangers) = (0, 0);
        for at in 0..model.len() {
            for byte in 0..=255 {
                let mut changed = model.clone();
                changed[at] = byte;
                let items = [model.clone(), model.clone(), changed, model.clone()];
                let found = scan(&request(&items), 7).unwrap();
                let (expected_strangers, expected_malformed) = scan_one_by_one(&items);
                let place = found.malformed_item.map(|_| 2);
                assert_eq!((found.strangers, place), (expected_strangers, expected_malformed), "byte {at} as {byte}");
                malformed += usize::from(place.is_some());
                strangers += found.strangers;
            }
        }
        assert!(malformed > 100 && strangers > 100, "{malformed} malformed, {strangers} strangers");
    }

    #[test]
    fn what_was_learned_from_one_request_judges_the_next_one_alike() {
        let mut shapes = ItemShapes::default();
        let model = item(7);
        for at in 0..model.len() {
            for byte in 0..=255 {
                let mut changed = model.clone();
                changed[at] = byte;
                for one in [&model, &changed, &changed] {
                    let body = request(std::slice::from_ref(one));
                    assert_eq!(scan_add_request(&body, 7, &mut shapes), scan(&body, 7), "byte {at} as {byte}");
                }
            }
        }
    }

    #[test]
    fn every_cut_and_every_flipped_byte_ends_in_order() {
        let body = request(&[item(7), item(7), item(7)]);
        for end in 0..body.len() {
            let _ = scan(&body[..end], 7);
        }
        for at in 0..body.len() {
            for bit in 0..8 {
                let mut damaged = body.clone();
                damaged[at] ^= 1 << bit;
                let _ = scan(&damaged, 7);
            }
        }
    }

    #[test]
    fn what_is_no_protobuf_is_refused_where_it_stops_to_be() {
        let cut = field(REQUEST_ITEMS, &[0xff]);
        let found = scan(&cut, 7).map(|scan| (scan.items, scan.malformed_item));
        assert_eq!(found, Ok((1, Some(3))));
        let nested = vec![0x0b; 200];
        assert!(scan(&nested, 7).is_err());
        assert_eq!(scan(&[0], 7), Err(Malformed { at: 0 }));
        assert_eq!(scan(&[0x80; 11], 7), Err(Malformed { at: 0 }));
    }
}
