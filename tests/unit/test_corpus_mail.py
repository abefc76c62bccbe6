"""E-mail: each message a section, its text as a person reads it, and nothing that a broken or hostile one can break."""

from __future__ import annotations

import time
from email.message import EmailMessage
from io import BytesIO

import pytest

from corpus.parts import PART_CHARACTERS, joined
from corpus.readers import read_bytes, read_parts
from corpus.reading import Reading


def line_of(reading: Reading, words: str) -> int:
    return reading.place_at(reading.text.index(words)).number


def headings_over(reading: Reading, words: str) -> tuple[str, ...]:
    offset = reading.text.index(words)
    return next(block.headings for block in reading.blocks if block.start <= offset < block.end)


def message(subject: str, text: str, **headers: str) -> EmailMessage:
    made = EmailMessage()
    made["From"] = headers.pop("sender", '"Anna Müller" <anna@example.org>')
    made["To"] = "bruno@example.org"
    made["Date"] = "Mon, 02 Nov 2026 10:00:00 +0100"
    made["Subject"] = subject
    made.set_content(text)
    return made


class TestOneMessage:
    def test_is_a_section_headed_by_subject_sender_and_date(self) -> None:
        reading = read_bytes("a.eml", bytes(message("Die Nächte", "Wir treffen uns um zehn.\n\nBis dann!\n")))
        assert reading.title == "Die Nächte"
        assert headings_over(reading, "Wir treffen") == ("Die Nächte (Anna Müller, Mon, 02 Nov 2026 10:00:00 +0100)",)
        assert "From: Anna Müller <anna@example.org>" in reading.text.replace('"', "")
        assert "To: bruno@example.org" in reading.text

    @pytest.mark.parametrize("encoding", ["8bit", "quoted-printable"])
    def test_a_place_is_the_line_of_the_file(self, encoding: str) -> None:
        made = EmailMessage()
        made["Subject"] = "lines"
        lines = [
            f"Line number {n} with ä and a few words more so that it is long enough to break. " * 3 for n in range(9)
        ]
        made.set_content("\n".join(lines) + "\n\nlast paragraph\n", cte=encoding)
        data = bytes(made)
        reading = read_bytes("a.eml", data)
        for words in ("Line number 0", "Line number 5", "last paragraph"):
            assert words.encode() in data.split(b"\n")[line_of(reading, words) - 1]

    def test_plain_text_is_preferred_and_html_read_where_there_is_nothing_else(self) -> None:
        both = message("both", "The plain words.")
        both.add_alternative("<p>The <b>rich</b> words.", subtype="html")
        assert "rich" not in read_bytes("a.eml", bytes(both)).text
        rich = EmailMessage()
        rich["Subject"] = "rich"
        rich.set_content("<h1>Head</h1><p>Only <b>rich</b> words.<script>evil()</script>", subtype="html")
        reading = read_bytes("a.eml", bytes(rich))
        assert "Only rich words." in reading.text and "evil" not in reading.text
        assert headings_over(reading, "Only rich") == ("rich", "Head")

    def test_attachments_are_named_and_not_opened(self) -> None:
        made = message("files", "See what is attached.")
        made.add_attachment(b"%PDF-1.7 secret", maintype="application", subtype="pdf", filename="plan.pdf")
        made.add_attachment(b"the notes", maintype="text", subtype="plain", filename="notes.txt")
        reading = read_bytes("a.eml", bytes(made))
        assert reading.lost == ("2 attachments (plan.pdf, notes.txt)",)
        assert "secret" not in reading.text and "the notes" not in reading.text

    def test_a_forwarded_message_is_a_section_inside(self) -> None:
        outer = message("Fwd", "Look at this.")
        outer.add_attachment(message("Inner", "The inner words.", sender="carla@example.org"))
        reading = read_bytes("a.eml", bytes(outer))
        first, second = headings_over(reading, "The inner words.")
        assert first.startswith("Fwd (") and second.startswith("Inner (carla@example.org")

    def test_encoded_headers_and_old_encodings_are_read(self) -> None:
        data = (
            b"From: =?koi8-r?B?4c7OwQ==?= <a@b.ru>\nSubject: =?windows-1251?Q?=CF=F0=E8=E2=E5=F2?=\n"
            b"Content-Type: text/plain; charset=windows-1251\n\n" + "Каждую ночь монах читает.\n".encode("cp1251")
        )
        reading = read_bytes("a.eml", data)
        assert reading.title == "Привет"
        assert "Каждую ночь" in reading.text and "Анна" in reading.text


class TestBrokenMail:
    BROKEN = (
        b"Subject: =?utf-8?B?broken\n\nwords here\n",
        b"Subject: x\nContent-Type: multipart/mixed\n\nno boundary but words here\n",
        b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nwords here\n",
        b"Subject: x\nContent-Type: text/plain; charset=no-such-thing\n\nwords here \xff\xfe\n",
        b"Subject: x\nContent-Transfer-Encoding: base64\n\n!!! words here no base64 ###\n",
        b"Subject: x\nContent-Type: \xff\xff; boundary=\x00\n\nwords here\n",
        b"Subject: x\nContent-Type: message/rfc822\n\nwords here: x\n\nwords here\n",
        b"Subject: " + b"x" * 3_000_000 + b"\n\nwords here\n",
        b"Subject: x\nContent-Disposition: attachment; filename*0*=utf-8''%ZZ\nContent-Type: text/html\n\nwords here",
        b"\n\nwords here\n",
        b"words here\n",
    )

    @pytest.mark.parametrize("data", BROKEN, ids=range(len(BROKEN)))
    def test_never_fails_and_says_what_it_holds(self, data: bytes) -> None:
        reading = read_bytes("a.eml", data)
        assert "words" in reading.text or reading.lost

    def test_hundreds_of_thousands_of_parts_take_seconds(self) -> None:
        data = b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nwords\n" * 200_000
        began = time.process_time()
        assert "words" in read_bytes("a.eml", data).text
        assert time.process_time() - began < 20

    def test_parts_within_parts_without_end_are_read_as_text(self) -> None:
        data = b"Subject: deep\n"
        data += b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(3000))
        assert read_bytes("a.eml", data + b"\nwords here\n").title == "deep"

    def test_messages_within_messages_without_end_are_read_as_far_as_a_person_would(self) -> None:
        data = b"Subject: deep\nContent-Type: message/rfc822\n\n" * 400 + b"Subject: bottom\n\nwords here\n"
        assert read_bytes("a.eml", data).title == "deep"


class TestMailbox:
    def mailbox(self, count: int) -> bytes:
        one = "From someone@example.org Mon Nov  2 10:00:00 2026\nFrom: a@b.c\nSubject: Number {0}\n\n"
        one += "Body of {0}x.\n>From here on.\n\n"
        return "".join(one.format(number) for number in range(count)).encode()

    def test_each_message_is_a_section_with_its_line(self) -> None:
        data = self.mailbox(50)
        reading = read_bytes("a.mbox", data)
        assert headings_over(reading, "Body of 17x.") == ("Number 17 (a@b.c)",)
        assert data.split(b"\n")[line_of(reading, "Body of 17x.") - 1] == b"Body of 17x."
        assert "\nFrom here on." in reading.text

    def test_a_large_one_comes_in_parts_that_fit_together(self) -> None:
        body = b"word " * 20_000
        data = b"".join(
            b"From a Mon Nov  2 10:00:00 2026\nSubject: Number %d\n\nBody of %dx.\n%s\n\n" % (n, n, body)
            for n in range(100)
        )
        parts = list(read_parts("a.mbox", BytesIO(data)))
        assert len(parts) >= 2 and all(len(part.text) < PART_CHARACTERS + 2 * len(body) for part in parts)
        whole = joined(parts)
        assert data.split(b"\n")[line_of(whole, "Body of 97x.") - 1] == b"Body of 97x."
        for part in parts:
            assert whole.text[part.offset : part.offset + len(part.text)] == part.text

    def test_a_file_without_separators_is_one_message(self) -> None:
        assert read_bytes("a.mbox", b"Subject: alone\n\nwords here\n").text.endswith("words here")

    def test_a_line_without_end_takes_bounded_memory(self) -> None:
        data = b"From a Mon Nov  2 10:00:00 2026\nSubject: long\n\nwords here\n" + b"x" * (40 << 20)
        reading = read_bytes("a.mbox", data)
        assert "words here" in reading.text
        assert reading.lost == ("the end of 1 message longer than 32 MiB",)
