//! A picture as a PNG file.

use aero_machine::Frame;
use anyhow::Context as _;
use std::path::Path;

/// Writes `frame` to `file`. A machine that shows nothing gives one black pixel: a PNG cannot be empty.
///
/// # Errors
/// When the file cannot be written.
pub fn write(frame: &Frame, file: &Path) -> anyhow::Result<()> {
    let black = [0, 0, 0, 0xff];
    let (width, height, rgba) = match frame.rgba.is_empty() {
        true => (1, 1, &black[..]),
        false => (frame.width, frame.height, &frame.rgba[..]),
    };
    let out = std::fs::File::create(file).with_context(|| format!("screenshot {}", file.display()))?;
    let mut encoder = png::Encoder::new(std::io::BufWriter::new(out), width, height);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(rgba)?;
        writer.finish()
    });
    written.with_context(|| format!("screenshot {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picture_reads_back_with_its_size() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.png");
        let mut frame = Frame::default();
        (frame.width, frame.height, frame.rgba) = (2, 1, vec![255, 0, 0, 255, 0, 255, 0, 255]);
        write(&frame, &file).expect("written");
        let input = std::io::BufReader::new(std::fs::File::open(&file).expect("a file"));
        let mut reader = png::Decoder::new(input).read_info().expect("a PNG");
        let mut pixels = vec![0; 8];
        let info = reader.next_frame(&mut pixels).expect("pixels");
        assert_eq!((info.width, info.height, &pixels), (2, 1, &frame.rgba));
        write(&Frame::default(), &file).expect("an empty frame is no error");
        assert!(write(&frame, Path::new("no/such/folder/a.png")).is_err());
    }
}
