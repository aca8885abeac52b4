#!/usr/bin/perl
# SPDX-License-Identifier: MIT
#
# apply.pl MUTANT ROOT - Make the replacements of a .mut file in the files below ROOT.
#
# A .mut file: "groups: GROUP..." (of test_sched; may be left out); one or more of "file: PATH", "---old", text, "---new", text or nothing; then "---expect", text.
# The old text must be there exactly once.
use strict;
use warnings;

my ($mutant, $root) = @ARGV;
local $/;
open(my $in, '<', $mutant) or die "$mutant: $!\n";
my $text = <$in>;
$text =~ s/^---expect\n.*//ms;
$text =~ s/\A(?:groups: .*\n)?//;
my $end = 0;
while ($text =~ /\Gfile: (\S+)\n---old\n(.*?)\n---new\n(?:(.*?)\n)??(?=file: |\z)/gs) {
	my ($path, $old, $new) = ("$root/$1", $2, $3 // '');
	$end = pos $text;
	open(my $f, '<', $path) or die "$path: $!\n";
	my $source = <$f>;
	close($f);
	my $count = () = $source =~ /\Q$old\E/g;
	die "$mutant: the old text is in $path $count times\n" if $count != 1;
	$source =~ s/\Q$old\E/$new/;
	open($f, '>', $path) or die "$path: $!\n";
	print $f $source;
	close($f);
}
die "$mutant: what stands at $end is no replacement\n" if $end != length $text;
