"""The structured report (SR, TID 1500) of one series: every lesion of its SEG with its measurements, and the suspicion.

Numbers are those of `--statistics`: volume in mm3, long and short axis in mm, each lesion by the number of its segment.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gfscreen.errors import OutputError
from gfscreen.network_plan import RegionName
from gfscreen.results.statistics.lesions import MeasuredLesion
from gfscreen.scan.volume.dicom.headers import quiet
from gfscreen.version import __version__

if TYPE_CHECKING:
    from gfscreen.scan.volume.dicom.seg import EncodedSeg

# The SR of series 3 becomes 2003.
_SERIES_NUMBER_OFFSET = 2000
_MOST_SERIES = 10**9
_SCHEME = "99GFSCREEN"


@dataclass(frozen=True)
class Findings:
    """What a report tells. lesions: in the order of the SEG's segments; regions: where each lies.

    suspicion: how likely the scan is to hold a lesion, 0 to 1; None where that is not known, and not told then.
    weights_sha256: digest of the weights.
    """

    lesions: Sequence[MeasuredLesion]
    regions: Sequence[RegionName]
    suspicion: float | None
    weights_sha256: str


def encode_sr(findings: Findings, seg: EncodedSeg, uid_of: Callable[[str], str], name: str) -> bytes:
    """The report as the content of a DICOM file. uid_of: the UID of `sr`, `sr series`, `device` and `lesion N`.

    name: of the series, for messages. Raises OutputError where highdicom refuses the headers.
    """
    import highdicom as hd
    import pydicom
    from pydicom.config import disable_value_validation

    try:
        with quiet(), disable_value_validation():
            segmentation = pydicom.dcmread(io.BytesIO(seg.content))
            number = seg.series_number if 0 < seg.series_number < _MOST_SERIES else 0
            report = hd.sr.ComprehensiveSR(
                evidence=[*seg.source.images, segmentation],
                content=_content(findings, seg, segmentation, uid_of),
                series_instance_uid=uid_of("sr series"),
                series_number=_SERIES_NUMBER_OFFSET + number,
                sop_instance_uid=uid_of("sr"),
                instance_number=1,
                manufacturer="GF-Screen for FLARE",
                is_complete=True,
                series_description="Lesions, measured (GF-Screen)",
            )
            report.PatientName = seg.source.patient_name
            report.SoftwareVersions = __version__
            report.ManufacturerModelName = "gfscreen"
            buffer = io.BytesIO()
            report.save_as(buffer)
    except Exception as error:  # highdicom and pydicom raise many kinds for headers that they do not expect
        raise OutputError(
            f"{name}: no structured report can be made of this series ({type(error).__name__}: {error}); repair its "
            "headers"
        ) from error
    return buffer.getvalue()


def _content(findings: Findings, seg: EncodedSeg, segmentation: Any, uid_of: Callable[[str], str]) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=uid_of("device"), name="GF-Screen", manufacturer_name="GF-Screen for FLARE", model_name="gfscreen"
    )
    observer = hd.sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    algorithm = hd.sr.AlgorithmIdentification(
        name="GF-Screen",
        version=__version__,
        family=codes.DCM.ArtificialIntelligence,
        parameters=[f"weights sha256={findings.weights_sha256}"],
    )
    groups: list[Any] = [
        _lesion(lesion, region, seg, segmentation, algorithm, uid_of)
        for lesion, region in zip(findings.lesions, findings.regions, strict=True)
    ]
    groups.append(_scan(findings, algorithm, uid_of))
    return hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=hd.sr.CodedConcept("25045-6", "LN", "CT unspecified body region"),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=hd.sr.LanguageOfContentItemAndDescendants(
            hd.sr.CodedConcept("en", "RFC5646", "English")
        ),
    )


def _lesion(
    lesion: MeasuredLesion,
    region: RegionName,
    seg: EncodedSeg,
    segmentation: Any,
    algorithm: Any,
    uid_of: Callable[[str], str],
) -> Any:
    """One lesion: a segment of the SEG, volume, both axes, and where it lies."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    label = f"Lesion {lesion.id}"
    site = {"chest": codes.SCT.Chest, "abdomen": codes.SCT.Abdomen}[region]
    # Not by `from_segmentation`, which fails for a SEG of one segment.
    referenced = hd.sr.ReferencedSegment(
        sop_class_uid=segmentation.SOPClassUID,
        sop_instance_uid=segmentation.SOPInstanceUID,
        segment_number=lesion.id,
        source_series=hd.sr.SourceSeriesForSegmentation(seg.source.series[0]),
    )
    mm = codes.UCUM.Millimeter
    measurements = [
        hd.sr.Measurement(codes.SCT.Volume, lesion.volume_mm3, codes.UCUM.CubicMillimeter),
        hd.sr.Measurement(hd.sr.CodedConcept("103339001", "SCT", "Long axis"), lesion.long_axis_mm, mm),
        hd.sr.Measurement(hd.sr.CodedConcept("103340004", "SCT", "Short axis"), lesion.short_axis_mm, mm),
    ]
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=uid_of(label.lower()), identifier=label),
        referenced_segment=referenced,
        finding_type=codes.SCT.Lesion,
        finding_category=codes.SCT.MorphologicallyAbnormalStructure,
        algorithm_id=algorithm,
        finding_sites=[hd.sr.FindingSite(anatomic_location=site)],
        measurements=measurements,
    )


def _scan(findings: Findings, algorithm: Any, uid_of: Callable[[str], str]) -> Any:
    """The scan as a whole: how many lesions, and how likely it is to hold one. There is no standard code for these."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    one = codes.UCUM.NoUnits
    measurements = [
        hd.sr.Measurement(hd.sr.CodedConcept("lesion-count", _SCHEME, "Lesions"), len(findings.lesions), one)
    ]
    if findings.suspicion is not None:
        concept = hd.sr.CodedConcept("suspicion", _SCHEME, "Probability that the scan holds a lesion")
        measurements.append(hd.sr.Measurement(concept, findings.suspicion, one))
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=uid_of("scan"), identifier="Scan"),
        algorithm_id=algorithm,
        measurements=measurements,
    )
