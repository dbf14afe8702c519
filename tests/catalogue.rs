//! The catalogue: what can go wrong or be made to go wrong, and the tests that show what happens then.
//! Rows are named by a letter for the place and a number. A row without a test says why it has none.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "what fails here is a failed test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A row, what happens in it, the file of the test, and its name. Several tests may show one row.
type Row = (&'static str, &'static str, &'static str, &'static str);

/// How many rows each part of the catalogue has.
const PARTS: [(char, usize); 10] = [
    ('A', 25),
    ('B', 13),
    ('C', 13),
    ('D', 24),
    ('E', 7),
    ('F', 20),
    ('G', 10),
    ('H', 10),
    ('I', 12),
    ('J', 10),
];

/// Rows that have no test, and why.
const WITHOUT: [(&str, &str); 0] = [];

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // A: the tar.
    ("A01", "names that lead upwards",                         "tests/hostile_tar.rs", "a_name_that_leads_elsewhere_is_refused"),
    ("A01", "names that lead upwards, signed",                 "tests/hostile_tar.rs", "a_trusted_signature_makes_no_path_a_good_one"),
    ("A01", "names that lead out of somebody's archive",   "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("A02", "absolute names, drives, backslashes",             "tests/hostile_tar.rs", "a_name_that_leads_elsewhere_is_refused"),
    ("A02", "absolute names, drives, backslashes, signed",     "tests/hostile_tar.rs", "a_trusted_signature_makes_no_path_a_good_one"),
    ("A02", "absolute names in somebody's archive",        "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("A03", "a symbolic link and a file through it",           "tests/hostile_tar.rs", "an_entry_between_others_is_refused_wherever_it_stands"),
    ("A03", "an entry turned into a symbolic link",            "tests/hostile_tar.rs", "an_entry_that_is_no_regular_file_is_refused"),
    ("A03", "links in somebody's archive",                 "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("A04", "a hard link",                                     "tests/hostile_tar.rs", "an_entry_that_is_no_regular_file_is_refused"),
    ("A04", "a hard link to what is outside",                  "tests/hostile_tar.rs", "an_entry_between_others_is_refused_wherever_it_stands"),
    ("A04", "hard links in somebody's archive",            "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("A05", "a link and a directory of its name",              "tests/hostile_tar.rs", "an_entry_between_others_is_refused_wherever_it_stands"),
    ("A05", "links and directories in somebody's archive", "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("A06", "devices, pipes and unknown types",                "tests/hostile_tar.rs", "an_entry_that_is_no_regular_file_is_refused"),
    ("A06", "types that signed sums know nothing of",          "tests/hostile_tar.rs", "headers_that_lie_about_signed_entries_are_refused"),
    ("A06", "devices and pipes in somebody's archive",     "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("A07", "a PAX size above the header's",                   "tests/hostile_tar.rs", "an_entry_between_others_is_refused_wherever_it_stands"),
    ("A07", "PAX sizes above in somebody's archive",       "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("A08", "a PAX size below the header's",                   "tests/hostile_tar.rs", "an_entry_between_others_is_refused_wherever_it_stands"),
    ("A08", "PAX sizes below in somebody's archive",       "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("A09", "PAX names, hidden and broken records",            "tests/hostile_tar.rs", "an_entry_between_others_is_refused_wherever_it_stands"),
    ("A09", "extensions in the place of an entry",             "tests/hostile_tar.rs", "an_extension_in_the_place_of_an_entry_is_refused"),
    ("A09", "PAX names in somebody's archive",             "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("A10", "global PAX headers",                              "tests/hostile_tar.rs", "an_entry_between_others_is_refused_wherever_it_stands"),
    ("A10", "global PAX headers in somebody's archive",    "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("A11", "GNU long names and sparse files",                 "tests/hostile_tar.rs", "an_entry_between_others_is_refused_wherever_it_stands"),
    ("A11", "an entry turned into a GNU extension",            "tests/hostile_tar.rs", "an_entry_that_is_no_regular_file_is_refused"),
    ("A11", "sparse files in somebody's archive",          "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("A12", "the same entry again, exactly and nearly",        "tests/hostile_tar.rs", "an_entry_between_others_is_refused_wherever_it_stands"),
    ("A12", "the same entry again, signed",                    "tests/hostile_tar.rs", "a_trusted_signature_makes_no_path_a_good_one"),
    ("A12", "entries twice in somebody's archive",         "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("A13", "any two entries exchanged",                       "tests/hostile_tar.rs", "entries_in_another_order_or_missing_are_refused"),
    ("A13", "another order, signed",                           "tests/tamper.rs", "a_trusted_signature_does_not_excuse_a_wrong_bundle"),
    ("A14", "an entry that nobody listed, anywhere",           "tests/hostile_tar.rs", "an_entry_between_others_is_refused_wherever_it_stands"),
    ("A14", "an entry that nobody needs, signed",              "tests/tamper.rs", "a_trusted_signature_does_not_excuse_a_wrong_bundle"),
    ("A15", "any entry missing",                               "tests/hostile_tar.rs", "entries_in_another_order_or_missing_are_refused"),
    ("A16", "cut at every boundary between entries",           "tests/tamper.rs", "a_bundle_cut_short_at_any_boundary_is_refused"),
    ("A16", "somebody's archive without an end",           "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("A17", "cut at every byte",                               "tests/exhaustive.rs", "every_bit_and_every_byte_of_a_bundle_counts"),
    ("A17", "cut at every byte of a pipe",                     "tests/exhaustive.rs", "every_bit_and_every_byte_counts_through_a_pipe"),
    ("A17", "somebody's archive cut short",                "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("A18", "something behind the end",                        "tests/tamper.rs", "whatever_was_changed_after_signing_is_refused"),
    ("A18", "zeros and whole archives between and behind",     "tests/hostile_tar.rs", "an_entry_between_others_is_refused_wherever_it_stands"),
    ("A18", "something behind the end of a pipe",              "tests/pipes.rs", "what_follows_the_end_of_a_bundle_spoils_it"),
    ("A18", "archives behind somebody's archive",          "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("A19", "sizes beyond measure and in other spellings",     "tests/hostile_tar.rs", "a_size_in_another_spelling_or_beyond_all_measure_is_refused"),
    ("A19", "memory for sizes that are only claimed",          "tests/hostile_tar.rs", "a_size_that_is_claimed_takes_no_memory"),
    ("A19", "sizes in somebody's archive",                 "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("A20", "checksums of other kinds",                        "tests/hostile_tar.rs", "a_checksum_in_another_form_is_refused"),
    ("A20", "checksums in somebody's archive",             "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("A21", "names that are no text, or too much of it",       "tests/hostile_tar.rs", "a_name_that_leads_elsewhere_is_refused"),
    ("A22", "messages in metadata",                            "tests/hostile_tar.rs", "metadata_that_could_carry_a_message_is_refused"),
    ("A22", "messages in padding",                             "tests/hostile_tar.rs", "padding_that_could_carry_a_message_is_refused"),
    ("A23", "entries without end",                             "tests/hostile_tar.rs", "entries_without_end_are_refused_at_the_first_one"),
    ("A23", "sums, signatures, statements beyond limits",      "tests/hostile_tar.rs", "sums_and_signatures_beyond_their_limits_are_refused_unread"),
    ("A23", "entries without end in somebody's archive",   "tests/archives.rs", "entries_without_end_are_refused"),
    ("A24", "a bundle changed between two readings",           "tests/hostile_tar.rs", "a_bundle_that_is_changed_after_it_was_verified_sets_no_tag"),
    ("A24", "another file under the bundle's name",            "tests/hostile_tar.rs", "another_file_in_the_bundles_place_is_not_looked_at"),
    ("A24", "holes where content was",                         "tests/hostile_tar.rs", "holes_where_content_was_are_found"),
    ("A24", "pipes, devices and directories as bundles",       "tests/tamper.rs", "what_is_no_file_is_not_waited_for"),
    ("A24", "pipes among keys and signatures",                 "tests/tamper.rs", "a_pipe_among_keys_and_signatures_is_not_waited_for"),
    ("A25", "every single bit",                                "tests/exhaustive.rs", "every_bit_and_every_byte_of_a_bundle_counts"),
    ("A25", "every single bit of a pipe",                      "tests/exhaustive.rs", "every_bit_and_every_byte_counts_through_a_pipe"),
    ("A25", "every single bit of the head",                    "tests/exhaustive.rs", "the_head_vouches_for_itself_and_for_the_length"),
    ("A25", "every single bit of the compressed form",         "tests/exhaustive.rs", "a_flip_in_a_compressed_bundle_is_refused_or_changes_nothing"),
    ("A25", "what is said of damage",                          "tests/hostile_tar.rs", "damage_is_told_with_its_entry_and_its_bytes"),

    // B: the layout.
    ("B01", "another oci-layout, or none, signed",             "tests/tamper.rs", "a_trusted_signature_does_not_excuse_a_wrong_bundle"),
    ("B01", "another oci-layout, or none, at the source",      "tests/documents.rs", "a_layout_that_is_not_one_gives_no_bundle"),
    ("B01", "oci-layout in somebody's archive",            "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("B02", "an index.json that is none, or too deep or large", "tests/documents.rs", "a_layout_that_is_not_one_gives_no_bundle"),
    ("B02", "an index.json that does not follow from the statement", "tests/tamper.rs", "a_trusted_signature_does_not_excuse_a_wrong_bundle"),
    ("B02", "index.json in somebody's archive",            "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("B03", "a blob that is not what its name says",           "tests/tamper.rs", "whatever_was_changed_after_signing_is_refused"),
    ("B03", "a blob that is not what its name says, at the source", "tests/tamper.rs", "a_source_whose_blobs_are_damaged_gives_no_bundle"),
    ("B03", "blobs that lie in somebody's archive",        "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("B04", "sizes that lie or are none",                      "tests/documents.rs", "a_source_with_a_hostile_manifest_gives_no_bundle"),
    ("B04", "sizes that lie or are none, signed",              "tests/documents.rs", "a_trusted_signature_does_not_excuse_a_hostile_manifest"),
    ("B04", "blob sizes in somebody's archive",            "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("B05", "a blob that is not there",                        "tests/tamper.rs", "a_trusted_signature_does_not_excuse_a_wrong_bundle"),
    ("B05", "a blob that is not there, at the source",         "tests/documents.rs", "a_layout_that_is_not_one_gives_no_bundle"),
    ("B05", "blobs missing in somebody's archive",         "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("B06", "a blob that nothing refers to",                   "tests/tamper.rs", "a_trusted_signature_does_not_excuse_a_wrong_bundle"),
    ("B07", "digests that are none, and where they could lead", "tests/documents.rs", "a_hostile_digest_reaches_no_url"),
    ("B07", "digests that are none, signed",                   "tests/documents.rs", "a_trusted_signature_does_not_excuse_a_hostile_manifest"),
    ("B08", "indexes of indexes",                              "tests/documents.rs", "four_levels_of_indexes_are_carried_and_five_are_refused"),
    ("B08", "a million children",                              "tests/documents.rs", "an_index_that_names_too_much_is_refused"),
    ("B08", "few documents that name much",                    "tests/layouts.rs", "a_small_image_that_names_much_takes_little_memory"),
    ("B09", "another machine in the config",                   "tests/tamper.rs", "a_config_for_another_machine_than_the_index_says_is_refused"),
    ("B09", "another machine in the index, also signed",       "tests/documents.rs", "a_hostile_index_is_refused"),
    ("B09", "no platform, and one twice",                      "tests/documents.rs", "a_platform_that_an_index_does_not_name_or_names_twice_is_carried_as_it_is"),
    ("B10", "hostile names in a layout",                       "tests/documents.rs", "a_layout_that_is_not_one_gives_no_bundle"),
    ("B10", "hostile names in a statement",                    "tests/documents.rs", "a_trusted_signature_makes_no_name_a_good_one"),
    ("B11", "one name for two images in a layout",             "tests/documents.rs", "a_layout_that_is_not_one_gives_no_bundle"),
    ("B11", "one name for two images in a bundle",             "tests/documents.rs", "two_images_of_a_bundle_may_not_have_one_name"),
    ("B12", "embedded data that is another's",                 "tests/documents.rs", "a_source_with_a_hostile_manifest_gives_no_bundle"),
    ("B12", "embedded data that is another's, signed",         "tests/documents.rs", "a_trusted_signature_does_not_excuse_a_hostile_manifest"),
    ("B13", "directories and links for blobs",                 "tests/documents.rs", "a_layout_that_is_not_one_gives_no_bundle"),
    ("B13", "blobs below another algorithm",                   "tests/hostile_tar.rs", "a_trusted_signature_makes_no_path_a_good_one"),
    ("B13", "directories for blobs in somebody's archive", "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),

    // C: documents.
    ("C01", "keys of two kinds of documents, and in disguise", "tests/documents.rs", "a_source_with_a_hostile_manifest_gives_no_bundle"),
    ("C01", "keys of two kinds of documents, signed",          "tests/documents.rs", "a_trusted_signature_does_not_excuse_a_hostile_manifest"),
    ("C01", "indexes with keys of manifests",                  "tests/documents.rs", "a_hostile_index_is_refused"),
    ("C02", "media types that contradict each other",          "tests/documents.rs", "a_trusted_signature_does_not_excuse_a_hostile_manifest"),
    ("C02", "media types that contradict the registry's",      "tests/registry_client.rs", "what_is_no_manifest_is_refused"),
    ("C03", "keys twice, marks, comments, NaN",                "tests/documents.rs", "a_source_with_a_hostile_manifest_gives_no_bundle"),
    ("C03", "the same in configs",                             "tests/documents.rs", "a_hostile_image_config_is_refused"),
    ("C03", "odd spelling is left as it is",                   "tests/documents.rs", "white_space_and_the_order_of_keys_travel_to_the_byte"),
    ("C04", "Docker's schema 1",                               "tests/documents.rs", "a_source_with_a_hostile_manifest_gives_no_bundle"),
    ("C05", "layers with addresses elsewhere",                 "tests/documents.rs", "urls_of_a_foreign_layer_are_never_asked"),
    ("C06", "manifests of four mebibytes and more",            "tests/documents.rs", "four_mebibytes_of_manifest_are_carried_and_a_byte_more_is_refused"),
    ("C07", "no layers, thousands, and too many",              "tests/documents.rs", "images_without_layers_and_with_thousands_are_carried"),
    ("C07", "layers twice",                                    "tests/bundle.rs", "odd_but_honest_images_travel_whole"),
    ("C08", "configs that count their layers otherwise",       "tests/documents.rs", "a_config_that_counts_its_layers_otherwise_travels_to_the_byte"),
    ("C08", "docker archives that are not what configs say", "tests/archives.rs", "a_saved_image_that_is_not_what_its_config_says_gives_no_bundle"),
    ("C09", "a subject that is elsewhere",                     "tests/documents.rs", "a_subject_elsewhere_is_kept_and_not_fetched"),
    ("C10", "charts, modules, unknown types",                  "tests/documents.rs", "artifacts_of_unknown_types_travel_to_the_byte"),
    ("C10", "charts, modules, models, files, through registries", "tests/artifacts.rs", "artifacts_of_every_kind_cross_from_registry_to_registry_unchanged"),
    ("C10", "attestations",                                    "tests/round_trip.rs", "docker_images_attestations_and_single_manifests_travel_between_registries"),
    ("C11", "layers compressed anew on the way",               "tests/cli.rs", "a_layer_that_stays_wrong_gives_no_bundle"),
    ("C11", "bodies compressed on the way",                    "tests/registry_client.rs", "a_compressed_body_is_refused"),
    ("C12", "layers with indexes in them",                     "tests/documents.rs", "layers_that_are_indexed_or_compressed_otherwise_travel_to_the_byte"),
    ("C13", "what labels say",                                 "tests/documents.rs", "what_an_image_says_of_itself_is_in_no_output"),

    // D: signatures, keys, trust stores.
    ("D01", "no signature",                                "tests/tamper.rs", "an_unsigned_bundle_is_refused"),
    ("D01", "a signature cut out",                         "tests/tamper.rs", "a_signature_that_was_cut_out_is_missed"),
    ("D02", "a stranger's signature",                      "tests/tamper.rs", "a_bundle_signed_by_a_stranger_is_refused"),
    ("D03", "every bit of a signature and of a key",       "tests/keys.rs", "no_bit_of_a_signature_or_a_key_may_differ"),
    ("D04", "signatures in other forms and lengths",       "tests/keys.rs", "a_detached_signature_is_64_raw_bytes_and_nothing_else"),
    ("D04", "other programs' pre-hashed form",             "tests/trust.rs", "minisign_verifies_what_sealift_signs_and_the_other_way_round"),
    ("D05", "a signature with S + L",                      "tests/ed25519.rs", "a_signature_has_one_s"),
    ("D06", "points of small order, in every encoding",   "tests/ed25519.rs", "signatures_with_a_point_of_low_order_are_refused_in_every_encoding"),
    ("D06", "keys that anybody can sign for",              "tests/keys.rs", "a_key_that_anybody_can_sign_for_is_refused"),
    ("D07", "Ed25519ph",                                   "tests/keys.rs", "a_prehashed_signature_is_refused_with_a_hint"),
    ("D08", "one key twice, under two names",              "tests/trust.rs", "same_key_twice_counts_once"),
    ("D08", "fewer keys than asked for",                   "tests/trust.rs", "so_many_keys_must_have_signed_as_the_store_says"),
    ("D09", "key ids that lie or begin alike",             "tests/trust.rs", "a_key_id_is_a_hint_only"),
    ("D09", "many signatures under strange ids",           "tests/trust.rs", "many_strangers_signatures_cost_little"),
    ("D10", "a key in the bundle, or beside it",           "tests/keys.rs", "a_key_that_comes_with_the_bundle_is_never_looked_at"),
    ("D10", "a key in the bundle",                         "tests/tamper.rs", "a_key_that_comes_with_the_bundle_is_not_looked_at"),
    ("D11", "a revoked key",                               "tests/trust.rs", "a_revoked_key_counts_no_longer_not_even_for_old_bundles"),
    ("D12", "keys that have ended",                        "tests/trust.rs", "a_key_counts_until_its_end"),
    ("D12", "bundles that have expired",                   "tests/trust.rs", "expired_bundles_pass_only_where_the_store_allows_it"),
    ("D12", "clocks in 1970 and 2106",                     "tests/history.rs", "time_does_not_run_backwards"),
    ("D12", "a time that has not come",                    "tests/history.rs", "a_signed_time_is_in_the_past"),
    ("D12", "a time far ahead, for others",                "tests/history.rs", "a_time_far_ahead_makes_nothing_else_expire"),
    ("D13", "an older release",                            "tests/history.rs", "an_older_release_is_refused_unless_asked_for"),
    ("D13", "sequences, and one that ran ahead",           "tests/history.rs", "the_sequence_goes_before_the_version"),
    ("D13", "another content of a version",                "tests/history.rs", "a_version_that_comes_again_with_another_content_is_always_refused"),
    ("D13", "another spelling, another label",             "tests/history.rs", "another_spelling_is_no_other_version_and_another_label_no_other_image"),
    ("D13", "one sequence number for two versions",        "tests/history.rs", "one_place_in_the_sequence_is_for_one_version"),
    ("D14", "sums of one bundle and signatures of another","tests/tamper.rs", "a_signature_over_other_sums_does_not_count"),
    ("D14", "sums of one bundle, blobs of another",        "tests/tamper.rs", "whatever_was_changed_after_signing_is_refused"),
    ("D15", "stores that skip, repeat or go back",         "tests/trust.rs", "a_store_that_does_not_follow_is_refused"),
    ("D15", "stores that only one side signed",            "tests/trust.rs", "the_next_store_takes_over_when_keys_of_both_have_signed"),
    ("D15", "thresholds of 0 and beyond",                  "tests/trust.rs", "rules_that_make_no_sense_are_refused_before_any_bundle_is_read"),
    ("D16", "a store beyond measure in a bundle",          "tests/trust.rs", "a_store_in_a_bundle_may_not_be_of_any_size"),
    ("D16", "a store that could not be loaded",            "tests/trust.rs", "a_store_that_could_not_be_loaded_is_never_put_in_force"),
    ("D17", "a key for other bundles",                     "tests/trust.rs", "rules_say_who_may_sign_what"),
    ("D17", "a key for other images",                      "tests/trust.rs", "a_right_to_some_images_is_no_right_to_others"),
    ("D17", "a key for bundles, used on the store",        "tests/trust.rs", "a_key_for_some_bundles_is_no_key_for_the_store"),
    ("D18", "RSA, EC, X25519, Ed448",                      "tests/keys.rs", "keys_of_other_kinds_are_refused"),
    ("D18", "public for private, certificates, two keys",  "tests/keys.rs", "other_files_are_no_signing_keys_and_are_named_for_what_they_are"),
    ("D18", "private keys, damaged ones in the store",     "tests/tamper.rs", "a_trust_store_that_is_not_fit_trusts_nothing"),
    ("D18", "PKCS#8 as openssl writes it, encrypted",      "tests/keys.rs", "sealift_reads_what_openssl_makes"),
    ("D19", "wrong and empty passphrases",                 "tests/keys.rs", "a_wrong_passphrase_opens_nothing"),
    ("D19", "NUL in a passphrase",                         "tests/keys.rs", "a_passphrase_is_taken_as_it_is"),
    ("D19", "key files that ask for gigabytes of work",    "tests/keys.rs", "a_key_file_may_not_ask_for_any_amount_of_work"),
    ("D20", "stores that others can write to",             "tests/trust.rs", "a_store_that_others_can_change_is_refused"),
    ("D20", "directories above that others can write to",  "tests/trust.rs", "a_store_that_could_be_exchanged_as_a_whole_is_refused"),
    ("D20", "private keys that others may read",           "tests/keys.rs", "a_private_key_that_others_may_read_is_refused"),
    ("D21", "sums in another form",                        "tests/tamper.rs", "a_trusted_signature_does_not_excuse_a_wrong_bundle"),
    ("D22", "something else that was signed",              "tests/tamper.rs", "a_trusted_signature_does_not_excuse_a_wrong_bundle"),
    ("D23", "a damaged memory",                            "tests/history.rs", "a_damaged_memory_refuses"),
    ("D23", "a memory that is gone",                       "tests/history.rs", "a_memory_that_is_gone_is_noticed_where_that_was_asked_for"),
    ("D23", "somebody else's memory",                      "tests/history.rs", "a_memory_that_others_can_change_is_refused"),
    ("D24", "an attestation in an odd envelope",               "tests/evidence.rs", "an_envelope_is_read_as_verifiers_read_it"),
    ("D24", "an attestation about another image",              "tests/evidence.rs", "a_report_about_another_digest_is_refused"),

    // E: compression.
    ("E01", "gigabytes of zeros",                              "tests/compressed.rs", "a_bomb_is_not_unpacked"),
    ("E01", "zeros behind a good bundle",                      "tests/compressed.rs", "a_bomb_behind_a_bundle_is_not_unpacked"),
    ("E01", "zeros as somebody's archive",                 "tests/archives.rs", "bombs_are_refused_before_they_fill_the_disk"),
    ("E02", "windows of gigabytes",                            "tests/compressed.rs", "what_somebody_else_compressed_goes_through_a_pipe_only"),
    ("E02", "windows of somebody's archive",               "tests/archives.rs", "bombs_are_refused_before_they_fill_the_disk"),
    ("E03", "every cut and every flip",                        "tests/exhaustive.rs", "a_flip_in_a_compressed_bundle_is_refused_or_changes_nothing"),
    ("E03", "every cut and every flip in a pipe",              "tests/exhaustive.rs", "a_flip_in_a_compressed_bundle_is_refused_or_changes_nothing_through_a_pipe"),
    ("E03", "frames without a checksum or of another size",    "src/bundle/frames/tests.rs", "a_frame_is_exactly_what_the_table_says"),
    ("E03", "somebody's compressed archive, cut or damaged", "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("E04", "something behind the frames",                     "tests/compressed.rs", "what_follows_the_seek_table_spoils_it"),
    ("E04", "other archives behind the frames",                "tests/compressed.rs", "other_ways_of_compressing_are_refused_by_what_they_begin_with"),
    ("E04", "something behind somebody's compressed archive", "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("E05", "a million empty frames",                          "tests/compressed.rs", "a_million_empty_frames_are_read_and_come_to_an_end"),
    ("E05", "skippable frames",                                "src/bundle/frames/tests.rs", "what_stands_around_the_frames_is_refused"),
    ("E06", "other compressors, twice, dictionaries",          "tests/compressed.rs", "other_ways_of_compressing_are_refused_by_what_they_begin_with"),
    ("E06", "names that promise something else",               "tests/compressed.rs", "what_is_only_called_compressed_is_read_for_what_it_is"),
    ("E06", "other files for what they are",                   "tests/tamper.rs", "other_files_are_named_for_what_they_are"),
    ("E06", "other compressors of somebody's archive",     "tests/archives.rs", "a_hostile_archive_gives_no_bundle"),
    ("E07", "blocks that hold nothing, interrupted",           "tests/cli.rs", "an_import_and_a_verification_that_are_interrupted_say_so_and_leave_no_tag"),
    ("E07", "blocks that cost more than they hold",            "src/bundle/frames/tests.rs", "a_frame_is_exactly_what_the_table_says"),

    // F: registries, from this side.
    ("F01", "wrong bytes",                                     "tests/registry_client.rs", "wrong_bytes_do_not"),
    ("F01", "wrong bytes, once",                               "tests/cli.rs", "a_layer_that_arrives_damaged_once_is_fetched_once_more"),
    ("F01", "wrong bytes, always",                             "tests/cli.rs", "a_layer_that_stays_wrong_gives_no_bundle"),
    ("F02", "a tag that moves meanwhile",                      "tests/cli.rs", "a_tag_that_moves_while_it_is_pulled_makes_no_mixture"),
    ("F03", "a digest header that lies",                       "tests/registry_client.rs", "the_digest_header_may_not_lie"),
    ("F03", "no digest header",                                "tests/registry_client.rs", "without_a_digest_header_the_tag_is_hashed"),
    ("F04", "redirects and the login",                         "tests/registry_client.rs", "a_login_does_not_follow_a_redirect"),
    ("F04", "redirects in circles",                            "tests/registry_client.rs", "circles_and_strange_places_are_not_followed"),
    ("F04", "redirects away from TLS",                         "src/registry/origin.rs", "forbidden_places"),
    ("F05", "redirects to what is inside",                     "src/registry/origin.rs", "forbidden_places"),
    ("F05", "redirects to files",                              "tests/registry_client.rs", "circles_and_strange_places_are_not_followed"),
    ("F06", "somebody else's token server",                    "tests/registry_client.rs", "a_foreign_token_server_gets_no_login"),
    ("F06", "who is related to whom",                          "src/registry/origin.rs", "a_login_goes_to_the_same_owner_only"),
    ("F07", "challenges that are none",                        "src/registry/auth.rs", "hostile_challenges_are_errors"),
    ("F07", "a flood of challenges",                           "tests/registry_client.rs", "a_flood_of_challenges_opens_nothing"),
    ("F08", "tokens that are none",                            "tests/registry_client.rs", "token_answers_that_are_none"),
    ("F08", "lifetimes that are none",                         "src/registry/auth.rs", "tokens_that_are_none"),
    ("F09", "refused for ever",                                "tests/registry_client.rs", "refused_forever_is_refused_soon"),
    ("F10", "a manifest without end",                          "tests/registry_client.rs", "an_endless_manifest_stops_at_the_limit"),
    ("F10", "a manifest that is too large",                    "tests/registry_client.rs", "a_document_beyond_the_limit_is_not_even_asked_for"),
    ("F11", "bodies of another length",                        "tests/registry_client.rs", "a_wrong_length_is_noticed_at_once"),
    ("F11", "bodies without end",                              "tests/registry_client.rs", "an_endless_blob_stops_at_its_size"),
    ("F11", "a length beside chunks",                          "tests/registry_client.rs", "a_length_beside_chunks_does_not_smuggle"),
    ("F12", "bodies compressed on the way",                    "tests/registry_client.rs", "a_compressed_body_is_refused"),
    ("F13", "ranges ignored",                                  "tests/registry_client.rs", "a_server_that_ignores_ranges_sends_everything_again"),
    ("F13", "other ranges",                                    "tests/registry_client.rs", "another_range_than_the_one_asked_for_is_refused"),
    ("F13", "ranges refused",                                  "tests/registry_client.rs", "a_server_that_refuses_ranges_is_asked_for_everything"),
    ("F14", "links to next pages",                             "tests/registry_client.rs", "a_next_page_is_not_followed"),
    ("F15", "upload sessions with relative addresses",         "tests/registry_client.rs", "a_relative_location_with_a_query"),
    ("F15", "upload sessions elsewhere",                       "tests/registry_client.rs", "an_upload_elsewhere_goes_without_the_login"),
    ("F16", "mounts that are not done",                        "tests/registry_client.rs", "mounting"),
    ("F17", "an unknown authority",                            "tests/round_trip.rs", "a_registry_with_tls_and_a_login_takes_the_images_and_nobody_sees_the_password"),
    ("F17", "expired, for another, of its own, too old",       "tests/networks.rs", "a_certificate_that_is_not_right_is_refused_with_its_reason"),
    ("F18", "passwords in outputs and files",                  "tests/networks.rs", "a_password_is_in_no_output_and_in_no_file"),
    ("F18", "passwords in addresses",                          "tests/networks.rs", "a_password_that_was_typed_into_an_address_is_not_said_back"),
    ("F18", "passwords in damaged files",                      "src/registry/credentials.rs", "a_damaged_file_is_an_error_that_shows_nothing_of_it"),
    ("F19", "helpers that fail or never stop talking",         "tests/networks.rs", "a_helper_that_fails_is_told_and_never_taken_for_no_login"),
    ("F19", "helpers that say nothing",                        "src/registry/credentials.rs", "a_helper_that_says_nothing_is_ended"),
    ("F20", "faults that pass",                                "tests/registry_client.rs", "passing_faults_pass"),
    ("F20", "faults that last",                                "tests/registry_client.rs", "lasting_faults_last"),
    ("F20", "statuses that are no answer",                     "tests/registry_client.rs", "absent_is_a_404_and_nothing_else"),
    ("F20", "token servers that refuse",                       "tests/registry_client.rs", "a_token_server_that_refuses_is_not_ignored"),
    ("F20", "when to come back",                               "src/registry/refusal.rs", "retry_after_is_seconds_or_a_date"),

    // G: registries, as a destination.
    ("G01", "immutable, full, read-only, in the middle",       "tests/destinations.rs", "a_refusal_in_the_middle_is_told_and_no_tag_was_set"),
    ("G01", "immutable tags",                                  "tests/destinations.rs", "a_tag_that_may_not_be_set_again_is_told_by_its_name"),
    ("G01", "immutable, full, read-only, beforehand",          "tests/uploads.rs", "what_stops_an_upload_is_told_beforehand"),
    ("G01", "and then the same command finishes",              "tests/faults.rs", "what_does_not_pass_ends_the_import_and_the_same_command_finishes_it"),
    ("G02", "something else is kept",                          "tests/destinations.rs", "a_registry_that_keeps_something_else_is_not_believed"),
    ("G02", "something of another length is kept",             "tests/destinations.rs", "a_blob_of_another_length_is_not_taken_for_present"),
    ("G03", "tags that lead elsewhere",                        "tests/round_trip.rs", "a_tag_that_leads_elsewhere_is_moved_only_when_asked"),
    ("G04", "blobs swept away before the manifest",            "tests/destinations.rs", "what_a_registry_has_swept_away_is_sent_again_by_the_same_command"),
    ("G05", "types that are not taken",                        "tests/destinations.rs", "a_refusal_in_the_middle_is_told_and_no_tag_was_set"),
    ("G05", "what registries say of them",                     "tests/registry_client.rs", "what_registries_say_to_a_document"),
    ("G06", "killed before the tags",                          "tests/soak.rs", "a_killed_import_leaves_no_half_image_under_a_tag_and_is_finished_by_the_next"),
    ("G07", "two imports into a registry",                     "tests/destinations.rs", "two_imports_into_one_registry_at_once_both_succeed"),
    ("G07", "two imports into a layout",                       "tests/layouts.rs", "of_two_imports_at_once_at_least_one_succeeds_and_none_spoils_it"),
    ("G08", "tokens that die in the middle",                   "tests/destinations.rs", "a_token_that_dies_in_the_middle_of_an_upload_is_replaced"),
    ("G08", "tokens that die on the way",                      "tests/registry_client.rs", "a_token_that_dies_on_the_way_is_worth_another_try"),
    ("G09", "upload sessions that are lost",                   "tests/destinations.rs", "a_session_that_is_lost_costs_another_and_no_failure"),
    ("G09", "upload sessions that are lost after a break",     "tests/uploads.rs", "a_session_that_is_of_no_use_is_replaced"),
    ("G10", "names that cannot be",                            "tests/destinations.rs", "a_name_that_no_registry_takes_is_refused_before_anything_is_asked"),
    ("G10", "one name for two images",                         "tests/round_trip.rs", "two_images_may_not_get_one_name"),

    // H: the command line and the release manifest.
    ("H01", "unknown keys and wrong values",                   "tests/cli.rs", "a_wrong_manifest_is_refused_with_line_and_column"),
    ("H01", "keys twice, bombs, other formats",                "tests/cli.rs", "a_hostile_manifest_is_refused_and_takes_neither_stack_nor_memory"),
    ("H02", "names that cannot be",                            "tests/cli.rs", "a_wrong_manifest_is_refused_with_line_and_column"),
    ("H02", "a pin and another image",                         "tests/round_trip.rs", "a_pin_that_still_fits_is_kept_and_one_that_does_not_stops_the_export"),
    ("H03", "platforms that are not there",                    "tests/cli.rs", "a_missing_platform_lists_those_that_are_there"),
    ("H04", "a selection of nothing",                          "tests/round_trip.rs", "parts_of_a_release_can_be_exported_and_imported"),
    ("H04", "a manifest of nothing",                           "tests/cli.rs", "a_hostile_manifest_is_refused_and_takes_neither_stack_nor_memory"),
    ("H05", "outputs that exist",                              "tests/cli.rs", "an_existing_output_is_kept_unless_replacing_was_asked_for"),
    ("H05", "outputs that are inputs",                         "tests/cli.rs", "an_output_that_is_an_input_is_never_replaced"),
    ("H05", "outputs that are devices, names that are no text", "tests/cli.rs", "an_output_that_is_no_file_is_refused_and_any_name_will_do"),
    ("H06", "readers that leave",                              "tests/cli.rs", "a_reader_that_leaves_early_is_no_failure"),
    ("H06", "readers of a bundle that leave",                  "tests/pipes.rs", "a_reader_that_goes_away_ends_the_export"),
    ("H06", "nobody hears the errors",                         "tests/cli.rs", "an_error_that_nobody_hears_changes_nothing"),
    ("H06", "an export is interrupted",                        "tests/cli.rs", "an_export_interrupted_in_the_middle_of_a_layer_is_finished_by_the_same_command"),
    ("H06", "an import is interrupted",                        "tests/cli.rs", "an_import_and_a_verification_that_are_interrupted_say_so_and_leave_no_tag"),
    ("H07", "no key",                                          "tests/cli.rs", "an_export_needs_a_key_or_says_that_it_has_none"),
    ("H07", "environment and flag",                            "tests/cli.rs", "the_environment_names_the_trust_store_and_the_flag_wins"),
    ("H08", "a terminal's commands from a server",             "tests/cli.rs", "control_characters_from_a_server_are_escaped"),
    ("H08", "a terminal's commands from files",                "tests/cli.rs", "control_characters_from_the_command_line_and_files_are_escaped"),
    ("H09", "two exports to one name",                         "tests/resume.rs", "two_exports_to_one_name_do_not_meet"),
    ("H09", "two imports to one layout",                       "tests/layouts.rs", "of_two_imports_at_once_at_least_one_succeeds_and_none_spoils_it"),
    ("H10", "thousands of images",                             "tests/scale.rs", "time_and_memory_grow_with_the_number_of_blobs_and_no_faster"),

    // I: disks.
    ("I01", "a full stick",                                    "tests/disk.rs", "a_stick_without_room_is_told_before_anything_is_pulled"),
    ("I01", "full at any write of an export",                  "tests/disk.rs", "an_export_to_a_broken_disk_fails_and_the_same_command_finishes_it"),
    ("I01", "full at any write of an import",                  "tests/disk.rs", "an_import_to_a_broken_disk_fails_and_the_same_command_finishes_it"),
    ("I01", "no room for the results",                         "tests/cli.rs", "a_full_disk_for_the_results_is_a_failure"),
    ("I02", "bad sectors",                                     "tests/disk.rs", "a_bad_sector_is_told_with_its_place_and_never_taken_for_a_wrong_bundle"),
    ("I03", "writes and syncs that fail",                      "tests/disk.rs", "an_export_to_a_broken_disk_fails_and_the_same_command_finishes_it"),
    ("I03", "what was written is lost",                        "tests/disk.rs", "a_disk_that_loses_what_was_written_is_not_overlooked"),
    ("I04", "short and interrupted calls",                     "tests/disk.rs", "short_and_interrupted_reads_and_writes_are_continued"),
    ("I04", "short writes",                                    "tests/disk.rs", "short_writes_are_continued"),
    ("I05", "death before every call of an export",            "tests/disk.rs", "an_export_may_die_before_any_call_to_the_disk"),
    ("I05", "death before every call of an import",            "tests/disk.rs", "an_import_may_die_before_any_call_to_the_disk"),
    ("I05", "death at any moment",                             "tests/soak.rs", "a_killed_export_leaves_no_wrong_bundle_and_is_finished_by_the_next"),
    ("I06", "the order in which things reach the disk",        "tests/disk.rs", "only_what_has_reached_the_disk_gets_a_name"),
    ("I06", "an unfinished file that lost its pages",          "tests/resume.rs", "a_damaged_partial_is_found_and_mended"),
    ("I07", "read-only media, no home, no temporary files",    "tests/disk.rs", "a_read_only_medium_is_enough_for_verify_and_import"),
    ("I08", "files that are too large for the medium",         "tests/disk.rs", "a_limit_on_file_sizes_is_told_with_a_hint"),
    ("I09", "quotas",                                          "tests/disk.rs", "a_quota_is_told_like_a_full_disk"),
    ("I09", "no more names",                                   "tests/disk.rs", "a_medium_without_room_for_another_name_is_told_like_a_full_one"),
    ("I09", "few open files",                                  "tests/disk.rs", "few_open_files_are_enough_or_are_told"),
    ("I10", "a disk that writes something else",               "tests/disk.rs", "a_disk_that_writes_something_else_is_found_by_verify"),
    ("I11", "a clock that jumps",                              "tests/disk.rs", "a_clock_that_jumps_changes_nothing"),
    ("I12", "a stick that is pulled",                          "tests/disk.rs", "a_stick_that_is_pulled_ends_the_import_and_the_same_command_finishes_it"),

    // J: networks.
    ("J01", "connections that are reset, downwards",           "tests/faults.rs", "an_export_survives_what_passes"),
    ("J01", "connections that are reset, upwards",             "tests/faults.rs", "an_import_survives_what_passes"),
    ("J01", "connections that are reset again and again",      "tests/faults.rs", "a_connection_that_keeps_breaking_costs_no_byte_twice"),
    ("J02", "silence in a body",                               "tests/faults.rs", "silence_in_the_middle_costs_its_time_and_nothing_else"),
    ("J02", "silence before an answer",                        "tests/registry_client.rs", "a_server_that_says_nothing"),
    ("J02", "silence after an upload",                         "tests/registry_client.rs", "a_slow_source_is_waited_for_and_a_silent_server_is_not"),
    ("J03", "bodies that drip",                                "tests/registry_client.rs", "a_document_that_drips_is_given_up_and_a_layer_that_drips_is_not"),
    ("J04", "bodies that end early",                           "tests/registry_client.rs", "a_body_cut_short_goes_on_where_it_broke"),
    ("J04", "chunks that do not end",                          "tests/registry_client.rs", "chunks_that_do_not_end_are_not_taken_for_a_document"),
    ("J05", "names that nobody knows",                         "tests/networks.rs", "a_host_that_nobody_knows_is_told_with_a_hint"),
    ("J05", "nobody there",                                    "tests/cli.rs", "an_unreachable_registry_is_named_with_its_side"),
    ("J05", "handshakes that break off",                       "tests/registry_client.rs", "a_handshake_that_breaks_off_is_told_with_its_host"),
    ("J06", "proxies and exceptions",                          "tests/networks.rs", "a_proxy_is_asked_unless_it_is_not_to_be"),
    ("J06", "login pages",                                     "tests/networks.rs", "a_login_page_is_not_taken_for_a_registry"),
    ("J07", "frames of HTTP/2, and floods",                    "tests/registry_client.rs", "answers_that_are_no_http_end_soon"),
    ("J07", "HTTP/2 is not spoken",                            "tests/networks.rs", "a_tls_connection_speaks_http_1_only"),
    ("J08", "flipped bits, downwards",                         "tests/faults.rs", "a_flipped_bit_never_gets_into_a_bundle"),
    ("J08", "flipped bits, upwards",                           "tests/faults.rs", "a_flipped_bit_never_gets_a_tag"),
    ("J09", "one image of many",                               "tests/networks.rs", "one_image_that_fails_leaves_no_bundle_and_what_came_is_used_again"),
    ("J10", "killed at the end",                               "tests/resume.rs", "only_what_is_missing_is_fetched"),
    ("J10", "killed at any moment",                            "tests/soak.rs", "a_killed_export_leaves_no_wrong_bundle_and_is_finished_by_the_next"),
];

/// Whether a source text has a test of this name: `#[test]` or `#[tokio::test]`, perhaps other attributes,
/// and the function.
fn is_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(number, line)| {
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        let here =
            function.and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with("()"));
        let above = lines[..number].iter().rev().take_while(|line| line.starts_with("#["));
        here && above.into_iter().any(|line| *line == "#[test]" || line.starts_with("#[tokio::test"))
    })
}

/// What is wrong with a table.
fn faults(rows: &[Row], without: &[(&str, &str)], read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (id, what, file, test) in rows {
        let (part, number) = id.split_at(1);
        let known = PARTS.iter().find(|(name, _)| part.starts_with(*name));
        let counted = number.len() == 2
            && number
                .parse::<usize>()
                .is_ok_and(|number| number >= 1 && known.is_none_or(|(_, count)| number <= *count));
        if !counted || !part.chars().all(|c| c.is_ascii_uppercase()) {
            wrong.push(format!("{id} is no row"));
        }
        if what.is_empty() || !seen.insert((id, file, test)) {
            wrong.push(format!("{id}: {test} is listed twice, or for nothing"));
        }
        match read(file) {
            None => wrong.push(format!("{id}: there is no file {file}")),
            Some(text) if !is_test(&text, test) => wrong.push(format!("{id}: {file} has no test {test}")),
            Some(_) => {}
        }
    }
    let ids: BTreeSet<_> = rows.iter().map(|(id, ..)| (*id).to_owned()).collect();
    for (part, count) in PARTS {
        for number in 1..=count {
            let id = format!("{part}{number:02}");
            let excused = without.iter().any(|(row, reason)| *row == id && reason.len() > 20);
            if ids.contains(&id) == excused {
                wrong.push(format!("{id} must have either a test or a reason"));
            }
        }
    }
    wrong
}

fn read(file: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).ok()
}

#[test]
fn every_row_has_a_test_that_exists_or_a_reason() {
    let wrong = faults(ROWS, &WITHOUT, read);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let mut parts = BTreeMap::<char, BTreeSet<&str>>::new();
    for (id, ..) in ROWS {
        parts.entry(id.chars().next().unwrap()).or_default().insert(id);
    }
    let tests: BTreeSet<_> = ROWS.iter().map(|(_, _, file, test)| (file, test)).collect();
    let rows: usize = parts.values().map(BTreeSet::len).sum();
    let counts: Vec<_> = parts.iter().map(|(part, rows)| format!("{part} {}", rows.len())).collect();
    eprintln!(
        "{} rows ({}), {} tests, {} rows without a test",
        rows + WITHOUT.len(),
        counts.join(", "),
        tests.len(),
        WITHOUT.len(),
    );
}

#[test]
fn a_table_with_a_hole_or_a_lie_is_noticed() {
    let text = "#[test]\nfn there() {}\n\nfn helper() {}\n#[tokio::test]\n#[allow(x)]\nasync fn also() {}\n// fn said()\n";
    for (name, is) in [("there", true), ("also", true), ("helper", false), ("ther", false), ("said", false)] {
        assert_eq!(is_test(text, name), is, "{name}");
    }
    let files = |file: &str| (file == "here").then(|| text.to_owned());
    let count = |rows: &[Row], without: &[(&str, &str)]| faults(rows, without, files).len();
    let all: usize = PARTS.iter().map(|(_, count)| count).sum();
    assert_eq!(count(&[], &[]), all);
    assert_eq!(count(&[("A01", "x", "here", "there")], &[]), all - 1);
    assert_eq!(count(&[("A01", "x", "here", "helper")], &[]), all);
    assert_eq!(count(&[("A01", "x", "nowhere", "there")], &[]), all);
    assert_eq!(count(&[("A26", "x", "here", "there")], &[]), all + 1);
    assert_eq!(count(&[("D24", "x", "here", "there")], &[]), all - 1);
    assert_eq!(count(&[], &[("A01", "a reason that is long enough")]), all - 1);
    assert_eq!(count(&[], &[("A01", "no")]), all);
    assert_eq!(count(&[("A01", "x", "here", "there")], &[("A01", "a reason that is long enough")]), all);
}
